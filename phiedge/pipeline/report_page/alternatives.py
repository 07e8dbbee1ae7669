"""What each linear costs, and what more bytes would buy."""

from html import escape
from typing import Any, TypeAlias

from phiedge.pipeline.report_page.charts import Point, curve, stacked_columns
from phiedge.pipeline.report_page.figures import megabytes, number, percent, table
from phiedge.pipeline.report_page.style import LINEAR_COLOURS

Report: TypeAlias = dict[str, Any]
_MODULES = {"qkv_proj": "qkv", "o_proj": "o", "gate_up_proj": "gate_up", "down_proj": "down"}


def sensitivity(report: Report) -> str:
    """What each linear costs alone."""
    found = report.get("sensitivity")
    if not found:
        return ""
    columns: dict[str, dict[str, float]] = {}
    for one in found["linears"]:
        layer, linear = _place(one["name"])
        columns.setdefault(layer, {})[linear] = max(one["kl_mean"], 0.0)
    drawn = stacked_columns(list(columns.items()), LINEAR_COLOURS, "KL, nats")
    key = "".join(f'<span><i style="background: {c}"></i>{escape(name)}</span>' for name, c in LINEAR_COLOURS.items())
    worst = max(found["linears"], key=lambda one: one["kl_mean"])
    return (
        "<h2>What each linear costs</h2><p>Divergence of next tokens with that linear quantised and all others as in "
        f"the original model, measured on {found['rows']} held-out rows of text and thought. Most costs "
        f"<code>{escape(worst['name'])}</code>: {number(worst['kl_mean'])} nats.</p>"
        f'<div class="key">{key}</div>{drawn}'
    )


def _place(name: str) -> tuple[str, str]:
    parts = name.split(".")
    return parts[2], _MODULES.get(parts[-2], parts[-2])


def alternatives(report: Report) -> str:
    """Sizes that the bundle could have instead, and what each would cost."""
    found = report.get("sensitivity")
    if not found or not found["curve"]:
        return ""
    asked = sorted((report.get("mixed") or {}).get("wider", {}))
    points = [
        Point(
            x=one["linears_bytes"] / 1e6,
            y=one["kl_mean"],
            told=f"{one['linears_bytes'] / 1e6:.4g} MB, {len(one['wider'])} linears wider: {one['kl_mean']:.3g} nats",
            asked=sorted(one["wider"]) == asked,
        )
        for one in found["curve"]
    ]
    least = found["curve"][0]
    rows = [
        (
            _told_wider(one["wider"]) if one["wider"] else "all as they are",
            megabytes(one["linears_bytes"]),
            "" if not one["wider"] else f"+{percent(one['linears_bytes'] / least['linears_bytes'] - 1)}",
            number(one["kl_mean"]),
            "" if not one["wider"] else _less(one["kl_mean"], least["kl_mean"]),
            percent(one["top1_agreement"], 2),
            "this bundle" if sorted(one["wider"]) == asked else "",
        )
        for one in found["curve"]
    ]
    head = (f"at {found['wider_as']}", "linears", "size", "KL, nats", "less", "same token", "")
    return (
        "<h2>What more bytes would buy</h2><p>The linears that cost most for what they would take get more bits first, "
        f"as <code>{escape(found['wider_as'])}</code>; measured with all others quantised together. To buy it: "
        "<code>phiedge export --linears-mb</code>.</p>"
        + curve(points, "MB of the decoder's linears", "KL, nats")
        + table(head, rows, right=head[1:6])
    )


def _told_wider(wider: list[str]) -> str:
    by_layer: dict[str, list[str]] = {}
    for name in wider:
        layer, linear = _place(name)
        by_layer.setdefault(layer, []).append(linear)
    told = [f"{layer}: {'all' if len(linears) == 4 else ' '.join(linears)}" for layer, linears in by_layer.items()]
    return escape("layer " + "; ".join(told))


def _less(kl: float, before: float) -> str:
    return f"{100 * (1 - kl / before):.0f} % less" if before > 0 else "-"
