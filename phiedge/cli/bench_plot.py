"""A benchmark as a picture: decoding against the context, prefill against its length, pictures, each with its limit.

What was measured is blue, the limit is a dashed line; between the two is what software could still gain. matplotlib
draws it without a display.
"""

from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

if TYPE_CHECKING:
    from phiedge.runtime.bench import BenchReport
    from phiedge.runtime.bench.report import Beside

_SIZE_INCHES, _DPI = (13.0, 5.4), 150
MEASURED, LIMIT, FAINT = "#1f5fa8", "#444444", "#8fb4dd"
_PLATE = {"facecolor": "white", "edgecolor": "none", "alpha": 0.65, "pad": 1.0}  # behind figures that cross a line
_FULL_RANGE = 6.0  # a linear axis shows figures that differ by up to so much
STYLE: Any = {  # the keys of a style are a type of their own in some versions of matplotlib
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "phiedge",
}


def draw(report: "BenchReport", path: Path) -> None:
    """Write the picture of `report` to `path`, in the format of its suffix; never a part of it."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI)
        panels = figure.subplots(1, 3, gridspec_kw={"width_ratios": (5, 4, 4)})
        figure.subplots_adjust(left=0.055, right=0.985, top=0.80, bottom=0.21, wspace=0.26)
        _draw_decode(panels[0], report)
        _draw_prefill(panels[1], report)
        _draw_pictures(panels[2], report)
        _draw_words(figure, report)
        write_figure(figure, path)


def _draw_decode(axes: Any, report: "BenchReport") -> None:
    axes.set_title("decode, ms per token")
    axes.set_xlabel("context, tokens")
    cases = report.decode
    if not cases:
        _say_nothing(axes)
        return
    places = [case.context for case in cases]
    tails = [case.ms.most if case.ms.p99 is None else case.ms.p99 for case in cases]
    tail = "p99" if all(case.ms.p99 is not None for case in cases) else "p99 or max"
    axes.fill_between(places, [case.ms.p50 for case in cases], tails, color=FAINT, alpha=0.45, lw=0, label=f"to {tail}")
    axes.plot(places, [case.ms.most for case in cases], "x", color=MEASURED, alpha=0.7, label="max")
    axes.plot(places, [case.ms.p50 for case in cases], "o-", color=MEASURED, lw=2, label="p50")
    low, high = min(case.ms.p50 for case in cases), max(case.ms.most for case in cases)
    limits = [case.limit.limit_ms for case in cases if case.limit is not None]
    if limits:
        axes.plot(places, limits, "--", color=LIMIT, lw=1.6, label=_limit_label([case.limit for case in cases]))
        low = min(low, *limits)
    for case in cases:
        axes.annotate(
            _with_share(case.ms.p50, case.limit),
            (case.context, case.ms.p50),
            xytext=(0, -15),
            textcoords="offset points",
            ha="center",
            bbox=_PLATE,
        )
    _scale_lengths(axes, places)
    _scale_values(axes, low, high)
    axes.legend(loc="upper left", ncols=2)


def _draw_prefill(axes: Any, report: "BenchReport") -> None:
    axes.set_title("prefill, tokens per second")
    axes.set_xlabel(f"prompt, tokens, in chunks of {report.setting.chunk_tokens}")
    cases = report.prefill
    if not cases:
        _say_nothing(axes)
        return
    places = [case.tokens for case in cases]
    rates = [case.tokens_per_s for case in cases]
    axes.plot(places, rates, "o-", color=MEASURED, lw=2, label="median")
    for case in cases:
        axes.annotate(
            _with_share(case.tokens_per_s, case.limit),
            (case.tokens, case.tokens_per_s),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            bbox=_PLATE,
        )
    low, high = min(rates), max(rates)
    limits = [1000 * case.tokens / case.limit.limit_ms for case in cases if case.limit is not None]
    if limits:
        axes.plot(places, limits, "--", color=LIMIT, lw=1.6, label=_limit_label([case.limit for case in cases]))
        high = max(high, *limits)
    _scale_lengths(axes, places)
    _scale_values(axes, low, high)
    axes.legend(loc="upper right", ncols=2)


def _draw_pictures(axes: Any, report: "BenchReport") -> None:
    axes.set_title("pictures and first token, ms")
    axes.set_xlabel("ms, median; dashed: the limit")
    bars = [(f"{case.picture}\n{case.patches} patches", case.ms.p50, case.limit) for case in report.vision]
    if report.first_token is not None:
        first = report.first_token
        bars.append((f"first token\n{first.picture or 'no picture'}\n{first.tokens} tokens", first.ms.p50, first.limit))
    if not bars:
        _say_nothing(axes)
        return
    axes.grid(visible=False, axis="y")
    axes.barh([name for name, _, _ in bars], [ms for _, ms, _ in bars], height=0.55, color=MEASURED)
    widest = max(max(ms, 0.0 if limit is None else limit.limit_ms) for _, ms, limit in bars)
    for place, (_, ms, limit) in enumerate(bars):
        if limit is not None:
            axes.plot([limit.limit_ms] * 2, [place - 0.38, place + 0.38], "--", color=LIMIT, lw=1.6)
        edge = max(ms, 0.0 if limit is None else limit.limit_ms)
        axes.annotate(_with_share(ms, limit), (edge, place), xytext=(5, 0), textcoords="offset points", va="center")
    axes.set_xlim(0, 1.4 * widest)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.invert_yaxis()


def _draw_words(figure: Figure, report: "BenchReport") -> None:
    """What it is above, what it was measured with and what to mistrust below."""
    setting, host, rates = report.setting, report.host, report.rates
    groups = f", groups of {setting.group_size}" if setting.group_size else ""
    figure.text(0.055, 0.935, f"{setting.model}, {setting.precision}{groups}", fontsize=14, weight="bold")
    versions = f"{setting.backend} {setting.versions.get('onnxruntime', '')}".strip()
    machine = f"{versions}, {setting.threads} threads, on {host.cpu}, {host.cores} cores, load {host.load_average_1m:g}"
    figure.text(0.055, 0.885, machine, color=LIMIT)
    below = []
    if rates is not None:
        int8 = "" if rates.int8_gops is None else f" and {rates.int8_gops.best:,.0f} GOP/s in int8"
        below.append(
            f"limit: {rates.read_gbps.best:,.1f} GB/s read, {rates.float_gflops.best:,.0f} GFLOP/s in "
            f"{rates.float_type}{int8}, measured here; {_size(setting.weights_bytes)} of weights; "
            "in brackets: how much of it was reached"
        )
    below += [note if len(note) <= 170 else note[:169] + "…" for note in report.notes[:2]]
    figure.text(0.055, 0.095, "\n".join(below), color=LIMIT, va="top", fontsize=8.5, linespacing=1.5)


def _limit_label(besides: "list[Beside | None]") -> str:
    bounds = {beside.bound for beside in besides if beside is not None}
    return f"limit ({bounds.pop()})" if len(bounds) == 1 else "limit"


def _scale_lengths(axes: Any, places: list[int]) -> None:
    """Lengths grow by factors, and each one measured has its tick."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{place:,}" for place in places])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.17)


def _scale_values(axes: Any, low: float, high: float) -> None:
    """From zero where that shows everything, otherwise by factors, so that a limit far away can be seen beside it."""
    if high <= _FULL_RANGE * low:
        axes.set_ylim(0, 1.3 * high)
        return
    axes.set_yscale("log")
    axes.set_ylim(low / 1.6, high * 3)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _say_nothing(axes: Any) -> None:
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=LIMIT)
    axes.set_xticks([])
    axes.set_yticks([])


def _with_share(value: float, limit: "Beside | None") -> str:
    """A median, and in brackets how much of its limit it reached."""
    return _short(value) if limit is None else f"{_short(value)} ({limit.share:.0%})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.2f} GB" if size_bytes >= 10**9 else f"{size_bytes / 1e6:,.1f} MB"


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the suffix of `path`, under its name only when it is whole."""
    kind = path.suffix.lower().removeprefix(".")
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        partial = Path(file.name)
    try:
        figure.savefig(partial, format=kind, metadata={"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind))
        partial.chmod(0o644)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
