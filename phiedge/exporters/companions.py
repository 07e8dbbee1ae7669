"""The two files beside `config.json` that may contradict it: `generation_config.json` and `preprocessor_config.json`.

The publisher's own code does not read the preprocessor's file; it is read here only so that a checkpoint whose files
describe two different models is refused instead of exported as one of them.
"""

from dataclasses import dataclass

from phiedge.bundle import Generation
from phiedge.errors import ConfigError
from phiedge.exporters.json_object import JsonObject
from phiedge.exporters.section import Section

GENERATION_FILE = "generation_config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"

_BILINEAR = 2  # PIL.Image.Resampling.BILINEAR
_RESCALE = 1 / 255


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIds:
    """The ids that begin, end and pad a sequence; any of `eos` ends an answer."""

    bos: int
    eos: tuple[int, ...]
    pad: int


def read_generation(values: JsonObject | None, declared: TokenIds) -> tuple[Generation, TokenIds]:
    """The publisher's sampling defaults and the stop ids, which may only add to those that `config.json` declares.

    Without the file, transformers samples nothing and stops at config.json's ids; so does this.
    """
    if values is None:
        return Generation(do_sample=False, temperature=1.0, top_p=1.0), declared
    section = Section(values, GENERATION_FILE)
    section.inert("_from_model_config", "transformers_version", "use_cache")
    for key, number in (("bos_token_id", declared.bos), ("pad_token_id", declared.pad)):
        section.fixed(key, number)
    eos = section.integers("eos_token_id", minimum=0) if "eos_token_id" in section else declared.eos
    missing = sorted(set(declared.eos) - set(eos))
    if missing:
        raise ConfigError(
            f"{GENERATION_FILE} stops at {list(eos)}, config.json also at {missing}",
            remedy="take both files from the repository that the weights came from",
        )
    top_p = section.positive("top_p", default=1.0)
    if top_p > 1:
        raise ConfigError(
            f"{GENERATION_FILE}: 'top_p' is {top_p}, it is a share of at most 1", remedy="correct the file"
        )
    generation = Generation(
        do_sample=section.flag("do_sample", default=False),
        temperature=section.positive("temperature", default=1.0),
        top_p=top_p,
    )
    section.close()
    return generation, TokenIds(bos=declared.bos, eos=eos, pad=declared.pad)


def check_preprocessor(values: JsonObject, *, patch_size: int, min_num_patches: int, max_num_patches: int) -> None:
    """Hold `preprocessor_config.json` against `config.json` and against the one preprocessing that there is."""
    section = Section(values, PREPROCESSOR_FILE)
    section.inert("auto_map", "do_convert_rgb", "image_processor_type", "processor_class")
    section.fixed("patch_size", patch_size)
    section.fixed("min_num_patches", min_num_patches)
    section.fixed("max_num_patches", max_num_patches)
    for step in ("do_resize", "do_rescale", "do_normalize"):
        section.fixed(step, True)
    section.fixed("resample", _BILINEAR)
    section.fixed("rescale_factor", _RESCALE)
    section.fixed("image_mean", [0.5, 0.5, 0.5])
    section.fixed("image_std", [0.5, 0.5, 0.5])
    section.close()
