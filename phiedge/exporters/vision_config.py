"""`vision_config` inside `config.json`: the sizes of the vision tower, which the publisher leaves mostly to defaults.

Defaults are those of transformers' `Siglip2VisionConfig`, and, as in the publisher's code, the patch size is taken from
the tower's name where it is not written. The four sizes of the tower have no default: all are written, or none, and
then the tower must be the one that phiedge knows. A single one that is missing would be a guess, and for the number of
heads one that no tensor's shape contradicts.
"""

from typing import TypedDict

from phiedge.errors import ConfigError
from phiedge.exporters.section import Section

POSITION_GRID = 16  # num_patches 256 of Siglip2VisionConfig: the position table has 16 x 16 rows
DTYPES = ("bfloat16", "float16", "float32")

# The tower that an absent vision_config stands for, with its sizes as its own repository declares them.
_DEFAULT_TOWER = "google/siglip2-so400m-patch16-naflex"
_DEFAULT_TOWER_SIZES = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
}
_INERT = ("_name_or_path", "attention_dropout", "initializer_range", "transformers_version")


class VisionFields(TypedDict):
    """The fields of `ModelConfig` that this section fills."""

    vision_hidden_size: int
    vision_intermediate_size: int
    vision_heads: int
    vision_layers: int
    vision_layer_norm_eps: float
    vision_has_head: bool
    patch_size: int


def read_vision(section: Section) -> VisionFields:
    """Read `mm_vision_tower`, `vision_config` and `mm_hidden_size`. Raises `ConfigError`."""
    tower = section.text("mm_vision_tower")
    if "siglip" not in tower.lower() or "naflex" not in tower.lower():
        raise ConfigError(
            f"{section.where}: mm_vision_tower is {tower!r}, phiedge supports SigLIP2 NaFlex towers",
            remedy="give a Phi-4-reasoning-vision checkpoint",
        )
    vision = section.section("vision_config") or Section({}, f"{section.where}: vision_config")
    given = [key for key in _DEFAULT_TOWER_SIZES if key in vision]
    if not given and tower != _DEFAULT_TOWER:
        raise ConfigError(
            f"{section.where} has no sizes for the vision tower {tower!r}",
            remedy=f"write {', '.join(_DEFAULT_TOWER_SIZES)} into vision_config",
        )
    sizes = {
        key: vision.integer(key, minimum=1, default=None if given else default)
        for key, default in _DEFAULT_TOWER_SIZES.items()
    }
    vision.inert(*_INERT)
    vision.fixed("model_type", "siglip2_vision_model")
    vision.fixed("dtype", None, *DTYPES)
    vision.fixed("torch_dtype", None, *DTYPES)
    vision.fixed("hidden_act", "gelu_pytorch_tanh")
    vision.fixed("num_channels", 3)
    vision.fixed("num_patches", POSITION_GRID**2)
    section.fixed("mm_hidden_size", sizes["hidden_size"])
    found = VisionFields(
        vision_hidden_size=sizes["hidden_size"],
        vision_intermediate_size=sizes["intermediate_size"],
        vision_heads=sizes["num_attention_heads"],
        vision_layers=sizes["num_hidden_layers"],
        vision_layer_norm_eps=vision.positive("layer_norm_eps", default=1e-6),
        vision_has_head=vision.flag("vision_use_head", default=True),
        patch_size=vision.integer("patch_size", minimum=1, default=14 if "patch14" in tower.lower() else 16),
    )
    vision.close()
    return found
