"""What the vision encoder loses in 8 bits, stage by stage."""

from html import escape
from math import sqrt
from typing import Any, TypeAlias

from phiedge.pipeline.report_page.figures import number, percent, table

Report: TypeAlias = dict[str, Any]
_HEAD = ("stage", "product", "largest input", "input found by", "weight found by", "lost in the product", "behind it")
_RIGHT = (_HEAD[2], _HEAD[5], _HEAD[6])


def vision(report: Report) -> str:
    """The errors of every product's outputs, and of the rows that leave each stage."""
    found = report.get("vision")
    if not found:
        return ""
    rows = [_row(stage, place) for stage in found["stages"] for place in range(len(stage["linears"]))]
    said = (
        f"Linears of encoder and projector are {found['stored_as']}, and so is what goes into them, under one scale "
        f"each that was found on {found['pictures']} pictures ({found['data']}, {found['rows']:,} patches) and judged "
        f"on {found['held_out']} others. What is lost is the root of the squared error; of the features that the "
        f"decoder sees, {percent(sqrt(found['features_error']), 2)}."
    )
    return f"<h2>Vision in 8 bits</h2><p>{escape(said)}</p>" + table(_HEAD, rows, right=_RIGHT)


def _row(stage: Report, place: int) -> tuple[str, ...]:
    one = stage["linears"][place]
    last = place == len(stage["linears"]) - 1
    return (
        escape(stage["stage"]) if place == 0 else "",
        escape(one["linear"]),
        number(one["largest_input"]),
        escape(one["input_scale"]["rule"]),
        escape(one["method"]),
        percent(sqrt(one["errors"][one["method"]]), 2),
        percent(sqrt(stage["relative_error"]), 2) if last else "",
    )
