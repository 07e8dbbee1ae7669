"""Which GPUs share an engine, and which models a GPU has no kernels for.

TensorRT-RTX builds one engine for several compute capabilities, in the form that the least of them can run. For 89 and
120 that is the form of each alone, to the kernel. Together with 86 it would be the form of 86 for all: keys and values
expanded to all heads, and no FP8. So there is one family of two, and every other GPU has an engine of its own.
"""

import re
from collections.abc import Collection, Iterable
from typing import TypeAlias

from phiedge.bundle import Precision
from phiedge.errors import UsageError

Family: TypeAlias = tuple[int, ...]

_TOGETHER: Family = (89, 120)
_NO_INT4_OR_BFLOAT16 = 75
_FIRST_WITH_FP8 = 89
_PARTS = ("vision", "projector", "decoder", "lm_head")


def parse_sms(text: str) -> tuple[int, ...]:
    """Read "86,89,120" as numbers. Raises `UsageError`."""
    parts = text.split(",")
    if not all(re.fullmatch(r"[1-9]\d{1,2}", part) for part in parts):
        raise UsageError(
            f"{text!r} is no list of compute capabilities", remedy="write 8.6, 8.9 and 12.0 as --sm 86,89,120"
        )
    return tuple(dict.fromkeys(int(part) for part in parts))


def families(sms: Iterable[int], *, known: Collection[int], library: str) -> list[Family]:
    """The engines to build so that each of `sms` has one, in order; `known` is what the TensorRT at hand builds for.

    Raises `UsageError` for what it does not know; `library` is how it is called there, with its version.
    """
    found: list[Family] = []
    for sm in sms:
        if sm not in known:
            raise UsageError(
                f"{library} does not build for SM {sm}",
                remedy=f"it builds for {', '.join(map(str, sorted(known)))}; on a Jetson or another GPU, build there: "
                "phiedge build BUNDLE --backend tensorrt",
            )
        family = tuple(one for one in _TOGETHER if one in known) if sm in _TOGETHER else (sm,)
        if family not in found:
            found.append(family)
    return found


def family_name(family: Family) -> str:
    """As the engine's directory is called after its backend: `sm89+sm120`."""
    return "+".join(f"sm{sm}" for sm in family)


def check_precision(family: Family, precision: Precision) -> None:
    """Refuse weights that a GPU of the family has no products for. Raises `UsageError` naming the part."""
    for part in _PARTS:
        stored, sm = getattr(precision, part), min(family)
        if stored == "float8" and sm < _FIRST_WITH_FP8:
            raise UsageError(
                f"the {part} is stored as FP8, and SM {sm} has no FP8 units: they begin with SM {_FIRST_WITH_FP8}",
                remedy="export with --precision int4, or fp16"
                if part == "decoder"
                else "export with --vision-precision int8, or float",
            )
        if stored in ("int4", "bfloat16") and sm <= _NO_INT4_OR_BFLOAT16:
            raise UsageError(
                f"the {part} is stored as {stored}, which TensorRT-RTX does not build for SM {sm}",
                remedy="export with --precision fp16",
            )
