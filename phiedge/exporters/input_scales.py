"""Which linears have the scale of their input: all that a graph in 8 bits has, and nothing else."""

from collections.abc import Mapping, Sequence

from phiedge.errors import ExportError


def check_scales_are_of(wanted: Sequence[str], given: Mapping[str, float], *, who: str, where: str, else_: str) -> None:
    """Raises `ExportError`, by the first that is missing or left over, unless `given` has the scales of `wanted`.

    `who` wants them and `where` they belong, as words; `else_` is the option that needs none.
    """
    missing = [name for name in wanted if name not in given]
    left = [name for name in given if name not in wanted]
    if missing or left:
        told = f"{missing[0]} has none" if missing else f"{left[0]} is no linear of {where}"
        raise ExportError(
            f"{who} the scale of the input of each of {len(wanted)} linears, {len(given)} are given: {told}",
            remedy=f"calibrate this checkpoint, or use {else_}",
        )
