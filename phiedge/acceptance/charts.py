"""Charts as inline SVG, drawn from numbers with no library and no script: a report stays readable for ever."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 860, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 14, 36
_LETTER = 6.5  # what one takes of a line, about
_STRIP = 84  # the height of one curve of several
_TICKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A limit that is drawn across the chart."""

    at: float
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One figure over time; None where it was not told."""

    name: str
    unit: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axes:
    x: Callable[[float], float]
    y: Callable[[float], float]
    marks: list[str]


def percentile_curve(values: Sequence[float], limits: Sequence[Line]) -> str:
    """Latency over the share of requests within it, the tail spread out: 90 to 99 % is as far as 99 to 99.9 %."""
    ordered = sorted(values)
    count = len(ordered)
    nines = math.log10(max(count, 2))
    points = [(math.log10(count / (count - place)), value) for place, value in enumerate(ordered)]
    axes = _axes(nines, _top(ordered, limits), _share_ticks(nines))
    path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in _thinned(points))
    return _chart(
        [*axes.marks, *_limits(axes, limits), f'<polyline class="data" points="{path}"/>'], "share of requests"
    )


def time_series(
    times_s: Sequence[float], values: Sequence[float], missed: Sequence[bool], limits: Sequence[Line]
) -> str:
    """Each request at its intended start; misses stand out."""
    axes = _axes(max(times_s, default=1.0) or 1.0, _top(values, limits), None)
    dots = [
        f'<circle class="{"miss" if miss else "hit"}" '
        f'cx="{axes.x(at):.1f}" cy="{axes.y(value):.1f}" r="{3 if miss else 1.6}"/>'
        for at, value, miss in zip(times_s, values, missed, strict=True)
    ]
    return _chart([*axes.marks, *_limits(axes, limits), *dots], "seconds since the start")


def columns(times_s: Sequence[float], curves: Sequence[Curve]) -> str:
    """Curves of different units, one below the other, on one axis of time."""
    most = max(max(times_s, default=1.0), 1e-9)
    marks, top = [], 0.0
    for curve in curves:
        marks += _strip(times_s, curve, most, top)
        top += _STRIP
    for at in _round_ticks(most):
        marks.append(f'<text class="x" x="{_across(at, most):.1f}" y="{top + 14:.1f}">{at:g}</text>')
    marks.append(f'<text class="x" x="{WIDTH / 2}" y="{top + 30:.1f}">seconds since the start</text>')
    return _svg(marks, top + 36)


def _strip(times_s: Sequence[float], curve: Curve, most: float, top: float) -> list[str]:
    """One curve between `top` and the next, in its own range; a gap where nothing was told."""
    known = [value for value in curve.values if value is not None]
    low, high = min(known), max(known)
    room, middle = max(high - low, 0.02 * abs(high), 1e-9), (high + low) / 2

    def y(value: float) -> float:
        return top + 24 + (_STRIP - 34) * (0.5 - (value - middle) / room)

    title = ", ".join(part for part in (curve.name, curve.unit) if part)
    marks = [f'<text class="name" x="{_LEFT}" y="{top + 13:.1f}">{escape(title)}</text>']
    for bound in dict.fromkeys((high, low)):
        across = f'x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(bound):.1f}" y2="{y(bound):.1f}"'
        marks.append(f'<line class="grid" {across}/>')
        marks.append(f'<text class="y" x="{_LEFT - 8}" y="{y(bound) + 4:.1f}">{bound:.4g}</text>')
    piece: list[str] = []
    for at, value in zip(times_s, curve.values, strict=True):
        if value is None:
            marks += _joined(piece)
            piece = []
        else:
            piece.append(f"{_across(at, most):.1f},{y(value):.1f}")
    return marks + _joined(piece)


def _joined(points: Sequence[str]) -> list[str]:
    return [f'<polyline class="data" points="{" ".join(points)}"/>'] if points else []


def _across(at: float, most: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * max(0.0, at) / most


def miss_map(missed: Sequence[bool], *, columns: int = 100) -> str:
    """A square for each request, in order, row after row: clusters of misses are seen at once."""
    size = (WIDTH - 2) / columns
    rows = -(-max(len(missed), 1) // columns)
    cells = [
        f'<rect class="{"miss" if miss else "clean"}" x="{1 + size * (place % columns):.2f}" '
        f'y="{1 + size * (place // columns):.2f}" width="{size - 1:.2f}" height="{size - 1:.2f}"/>'
        for place, miss in enumerate(missed)
    ]
    return _svg(cells, rows * size + 2)


def stacked_bar(parts: Sequence[tuple[str, float]]) -> str:
    """The parts of a whole, side by side, with names and milliseconds."""
    total, at, drawn = sum(value for _, value in parts) or 1.0, 0.0, []
    for place, (name, value) in enumerate(parts):
        width = (WIDTH - 2) * value / total
        drawn.append(f'<rect class="part{place % 5}" x="{1 + at:.1f}" y="4" width="{width:.1f}" height="26"/>')
        text = f"{name} {value:.3g} ms"
        if width > 14 + _LETTER * len(text):
            drawn.append(f'<text class="on" x="{7 + at:.1f}" y="21">{escape(text)}</text>')
        at += width
    return _svg(drawn, 34)


def _axes(x_most: float, y_most: float, x_ticks: Sequence[tuple[float, str]] | None) -> _Axes:
    def x(value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * value / x_most

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / y_most

    ticks = x_ticks if x_ticks is not None else [(at, f"{at:g}") for at in _round_ticks(x_most)]
    marks = []
    for at in _round_ticks(y_most):
        marks.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(at):.1f}" y2="{y(at):.1f}"/>')
        marks.append(f'<text class="y" x="{_LEFT - 8}" y="{y(at) + 4:.1f}">{at:g}</text>')
    marks += [f'<text class="x" x="{x(at):.1f}" y="{HEIGHT - 20}">{text}</text>' for at, text in ticks]
    return _Axes(x=x, y=y, marks=marks)


def _limits(axes: _Axes, limits: Sequence[Line]) -> list[str]:
    drawn = []
    for limit in limits:
        at = axes.y(limit.at)
        drawn.append(f'<line class="limit" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        drawn.append(f'<text class="limit" x="{_LEFT + 6}" y="{at - 4:.1f}">{escape(limit.name)}</text>')
    return drawn


def _chart(marks: Sequence[str], below: str) -> str:
    names = (
        f'<text class="x" x="{WIDTH / 2}" y="{HEIGHT - 4}">{escape(below)}</text><text x="4" y="{_TOP - 2}">ms</text>'
    )
    return _svg([*marks, names], HEIGHT)


def _svg(marks: Sequence[str], height: float) -> str:
    body = "\n".join(marks)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">\n{body}\n</svg>'


def _top(values: Sequence[float], limits: Sequence[Line]) -> float:
    """Room for the data, and for limits that are not far beyond it."""
    highest = max(values, default=1.0) or 1.0
    near = [limit.at for limit in limits if limit.at < 4 * highest]
    return 1.12 * max([highest, *near])


def _round_ticks(most: float) -> list[float]:
    rough = most / _TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [float(f"{step * place:.6g}") for place in range(int(most / step) + 1)]


def _share_ticks(nines: float) -> list[tuple[float, str]]:
    shares = (0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999)
    return [(at, f"{100 * share:g} %") for share in shares if (at := -math.log10(1 - share)) <= nines + 1e-9]


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most some hundreds of points of the body, and all of the tail."""
    step = max(1, len(points) // 400)
    tail = len(points) - 200
    return [point for place, point in enumerate(points) if place >= tail or place % step == 0]
