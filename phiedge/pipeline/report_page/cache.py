"""What keys and values lose in 8 bits, layer by layer."""

from html import escape
from math import sqrt
from typing import Any, TypeAlias

from phiedge.pipeline.report_page.figures import number, percent, table

Report: TypeAlias = dict[str, Any]
_HEAD = ("layer", "", "largest", "int8, a scale for each channel", "int8, one scale", "float8, one scale", "found by")
_RIGHT = _HEAD[2:6]


def keys_and_values(report: Report) -> str:
    """The errors of every layer's keys and values with each kind of scale."""
    found = report.get("kv_cache")
    if not found:
        return ""
    rows = [_row(layer["layer"], side, layer[side]) for layer in found["layers"] for side in ("key", "value")]
    kept = f"They are kept as {found['stored_as']}" if found["stored_as"] else "They are kept as the graphs compute"
    said = (
        f"{kept}. Scales for either format were found on {found['samples']} examples ({found['data']}, "
        f"{found['rows']:,} rows). What is lost is the root of the squared error, of the numbers themselves."
    )
    return f"<h2>Keys and values</h2><p>{escape(said)}</p>" + table(_HEAD, rows, right=_RIGHT)


def _row(layer: int, side: str, found: Report) -> tuple[str, ...]:
    int8, float8 = found["int8"], found["float8"]
    return (
        str(layer),
        f"{side}s",
        number(found["largest"]),
        percent(sqrt(int8["channel_error"]), 2),
        percent(sqrt(int8["errors"][int8["rule"]]), 2),
        percent(sqrt(float8["errors"][float8["rule"]]), 2),
        escape(f"{int8['rule']}, {float8['rule']}"),
    )
