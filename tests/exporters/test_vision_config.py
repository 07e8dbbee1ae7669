import pytest

from phiedge.errors import ConfigError
from phiedge.exporters.section import Section
from phiedge.exporters.vision_config import VisionFields, read_vision
from published import PUBLISHED_CONFIG

SIZES = {"hidden_size": 96, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 3}


def read(**config: object) -> VisionFields:
    values: dict[str, object] = {"mm_vision_tower": "google/siglip2-so400m-patch16-naflex"}
    return read_vision(Section(values | config, "config.json"))


def test_the_published_section_gets_the_librarys_defaults() -> None:
    assert read(vision_config=PUBLISHED_CONFIG["vision_config"], mm_hidden_size=1152) == {
        "vision_hidden_size": 1152,
        "vision_intermediate_size": 4304,
        "vision_heads": 16,
        "vision_layers": 27,
        "vision_layer_norm_eps": 1e-6,
        "vision_has_head": True,
        "patch_size": 16,
    }


@pytest.mark.parametrize(
    "absent", [{}, {"vision_config": None}, {"vision_config": {"model_type": "siglip2_vision_model"}}]
)
def test_without_sizes_the_named_tower_is_meant(absent: dict[str, object]) -> None:
    assert read(**absent) == read(vision_config=PUBLISHED_CONFIG["vision_config"])


def test_what_the_section_says_wins() -> None:
    found = read(vision_config=SIZES | {"patch_size": 8, "layer_norm_eps": 1e-5, "vision_use_head": False})
    assert (found["patch_size"], found["vision_layer_norm_eps"], found["vision_has_head"]) == (8, 1e-5, False)


def test_the_patch_size_follows_the_towers_name() -> None:
    assert read(mm_vision_tower="x/siglip2-patch14-naflex", vision_config=SIZES)["patch_size"] == 14


@pytest.mark.parametrize("left_out", sorted(SIZES))
def test_a_section_with_some_of_the_sizes_is_refused(left_out: str) -> None:
    partial = {key: value for key, value in SIZES.items() if key != left_out}
    with pytest.raises(ConfigError, match=f"vision_config: '{left_out}' is missing"):
        read(vision_config=partial)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"mm_vision_tower": "openai/clip-vit-large"}, "phiedge supports SigLIP2 NaFlex towers"),
        ({"mm_vision_tower": "google/siglip-so400m-patch14-384"}, "phiedge supports SigLIP2 NaFlex towers"),
        ({"mm_vision_tower": "me/siglip2-naflex"}, "no sizes for the vision tower"),
        ({"mm_hidden_size": 768}, "'mm_hidden_size' is 768, phiedge supports 1152"),
        ({"vision_config": SIZES | {"num_channels": 4}}, "'num_channels' is 4"),
        ({"vision_config": SIZES | {"num_patches": 196}}, "'num_patches' is 196, phiedge supports 256"),
        ({"vision_config": SIZES | {"hidden_act": "gelu"}}, "'hidden_act'"),
        ({"vision_config": SIZES | {"model_type": "siglip_vision_model"}}, "'model_type'"),
        ({"vision_config": SIZES | {"image_size": 384}}, "'image_size'"),
        ({"vision_config": "so400m"}, "'vision_config' is \"so400m\""),
    ],
)
def test_another_tower_is_refused(config: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**config)
    assert said in caught.value.message
