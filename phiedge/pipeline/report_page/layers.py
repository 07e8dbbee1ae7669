"""What calibration saw and lost, layer by layer."""

from html import escape
from typing import Any, TypeAlias

from phiedge.pipeline.report_page.charts import Dot, dots_by_column, line
from phiedge.pipeline.report_page.figures import bar, number, percent, table
from phiedge.pipeline.report_page.style import METHOD_COLOURS, OTHER_COLOUR

Report: TypeAlias = dict[str, Any]
_FLOAT16_LARGEST = 65504.0
_NAMED_LAYERS = 6  # of more, the linears have no names below the chart


def divergence(calibration: Report) -> str:
    """Next tokens on held-out rows, by kind."""
    found = calibration.get("divergence") or {}
    if not found:
        return ""
    most = max(one["kl_mean"] for one in found.values()) or 1.0
    rows = [
        (
            escape(kind),
            number(one["rows"]),
            number(one["kl_mean"]),
            bar(one["kl_mean"] / most),
            percent(one["top1_agreement"], 2),
        )
        for kind, one in found.items()
    ]
    head = ("rows of", "rows", "KL, nats", " ", "same likeliest token")
    return (
        "<h2>Next tokens on held-out examples</h2><p>The calibrated linears beside the original's, everything else "
        "alike, on rows that no method saw. What is predicted behind a picture's rows (<em>visual</em>) nobody reads; "
        "it is here because the rows behind it do.</p>" + table(head, rows, right=("rows", "KL, nats", head[-1]))
    )


def errors(calibration: Report) -> str:
    """What each method loses in each linear."""
    layers = calibration.get("layers") or []
    found = [(layer, one) for layer in layers for one in layer.get("linears", []) if one.get("errors")]
    few = len(layers) <= _NAMED_LAYERS
    columns = [(_column_name(layer, one, few=few), _dots(layer, one)) for layer, one in found]
    drawn = dots_by_column(columns, "|X (W - Q)|² / |X W|²")
    if not drawn:
        return ""
    met = list(dict.fromkeys(method for _, one in found for method in one["errors"]))
    key = "".join(
        f'<span><i style="background: {METHOD_COLOURS.get(m, OTHER_COLOUR)}"></i>{escape(m)}</span>' for m in met
    )
    taken = [str(one.get("method", one.get("rule"))) for _, one in found]
    counts = ", ".join(f"{method} {taken.count(method)}" for method in dict.fromkeys(taken))
    return (
        "<h2>What each method loses</h2><p>Relative squared error of each linear's outputs on held-out rows, in "
        f"powers of ten: lower is better, the ringed one was taken ({escape(counts)}).</p>"
        f'<div class="key">{key}</div>{drawn}'
    )


def _dots(layer: Report, linear: Report) -> list[Dot]:
    named = f"layer {layer['layer']}, {linear['linear']}"
    return [
        Dot(
            value=error,
            colour=METHOD_COLOURS.get(method, OTHER_COLOUR),
            told=f"{named}, {method}: {error:.3g}",
            ringed=method == linear.get("method", linear.get("rule")),
        )
        for method, error in linear["errors"].items()
    ]


def _column_name(layer: Report, linear: Report, *, few: bool) -> str:
    if not few:
        return str(layer["layer"])
    return f"{linear['linear']}\n" + (f"layer {layer['layer']}" if linear["linear"] == "qkv" else "")


def along_layers(calibration: Report) -> str:
    """How the error of rows grows over the layers."""
    layers = [one for one in calibration.get("layers") or [] if one.get("relative_error") is not None]
    drawn = line([(str(one["layer"]), one["relative_error"]) for one in layers], "|x' - x|² / |x|²")
    if not drawn:
        return ""
    return (
        "<h2>How the error grows</h2><p>Of the rows that leave each layer, beside those of the original model: "
        f"the errors of all layers before are in it.</p>{drawn}"
    )


def outliers(calibration: Report) -> str:
    """The channels that stand out, and how near float16 ends."""
    rows = [
        (
            str(layer["layer"]),
            escape(linear["linear"]),
            number(linear.get("largest_input")),
            str(len(linear["outliers"])),
            escape(", ".join(map(str, linear["outliers"][:8])) + (" …" if len(linear["outliers"]) > 8 else "")),
        )
        for layer in calibration.get("layers") or []
        for linear in layer.get("linears", [])
        if linear.get("outliers")
    ]
    reached = max((one.get("largest_row", 0.0) for one in calibration.get("layers") or []), default=0.0)
    if not reached:
        return ""
    said = (
        f"The largest number along the residual is {number(reached)}, {number(_FLOAT16_LARGEST / reached)} times below "
        "where float16 ends."
    )
    if not rows:
        return f"<h2>Outlier channels</h2><p>None reaches 20 times the median channel. {said}</p>"
    head = ("layer", "linear", "largest input", "channels", "which")
    return (
        f"<h2>Outlier channels</h2><p>Channels whose largest input is over 20 times that of the median channel. {said}"
        "</p>" + table(head, rows, right=head[2:4])
    )
