"""Drawings as inline SVG: no library, no script, readable for ever."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 900, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 14, 22, 38
_TICKS = 5
_NAMED_COLUMNS = 45  # with more columns, only some have their name below
_DATA, _ASKED = "#2f6fdb", "#c62828"
_SMALL = 'font-size="11" fill="#7a8699"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One of several values of a column; `ringed` is the one that was taken."""

    value: float
    colour: str
    told: str
    ringed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point of a curve; `told` is shown when it is pointed at, `asked` makes it stand out."""

    x: float
    y: float
    told: str
    asked: bool = False


def dots_by_column(columns: Sequence[tuple[str, Sequence[Dot]]], unit: str) -> str:
    """Values of each column over each other, on a scale of powers of ten."""
    values = [dot.value for _, dots in columns for dot in dots if dot.value > 0]
    if not values:
        return ""
    low, high = _decades(values)

    def y(value: float) -> float:
        share = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share

    marks = [_grid(y(10.0**power), f"{10.0**power:g}") for power in range(low, high + 1)]
    for place, (_, dots) in enumerate(columns):
        x = _column(place, len(columns))
        heights = [y(dot.value) for dot in dots]
        marks.append(
            f'<line stroke="#8a94a6" stroke-opacity="0.35" stroke-width="2" x1="{x:.1f}" x2="{x:.1f}" '
            f'y1="{min(heights):.1f}" y2="{max(heights):.1f}"/>'
        )
        radius = 4.0 if len(columns) <= _NAMED_COLUMNS else 2.4
        apart = min(5.0, 0.6 * (_column(1, len(columns)) - _column(0, len(columns))) / len(dots))
        for number, dot in sorted(enumerate(dots), key=lambda pair: pair[1].ringed):
            ring = ' stroke="currentColor" stroke-width="1.6"' if dot.ringed else ' fill-opacity="0.75"'
            marks.append(
                f'<circle cx="{x + apart * (number - (len(dots) - 1) / 2):.1f}" cy="{y(dot.value):.1f}" '
                f'r="{radius + dot.ringed:.1f}" '
                f'fill="{dot.colour}"{ring}><title>{escape(dot.told)}</title></circle>'
            )
    return _svg([*marks, *_names([name for name, _ in columns]), _unit(unit)])


def stacked_columns(columns: Sequence[tuple[str, Mapping[str, float]]], colours: Mapping[str, str], unit: str) -> str:
    """Parts of each column over each other."""
    most = max((sum(parts.values()) for _, parts in columns), default=0.0)
    if most <= 0:
        return ""
    top = 1.08 * most

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top

    marks = [_grid(y(tick), f"{tick:g}") for tick in _round_ticks(most)]
    width = 0.72 * (WIDTH - _LEFT - _RIGHT) / len(columns)
    for place, (name, parts) in enumerate(columns):
        x, base = _column(place, len(columns)) - width / 2, 0.0
        for part, value in parts.items():
            marks.append(
                f'<rect x="{x:.1f}" y="{y(base + value):.1f}" width="{width:.1f}" '
                f'height="{max(y(base) - y(base + value), 0):.1f}" fill="{colours[part]}">'
                f"<title>{escape(f'layer {name}, {part}: {value:.3g}')}</title></rect>"
            )
            base += value
    return _svg([*marks, *_names([name for name, _ in columns]), _unit(unit)])


def line(columns: Sequence[tuple[str, float]], unit: str) -> str:
    """One value for each column."""
    most = max((value for _, value in columns), default=0.0)
    if most <= 0:
        return ""

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / (1.08 * most)

    at = [(_column(place, len(columns)), y(value)) for place, (_, value) in enumerate(columns)]
    marks = [_grid(y(tick), f"{tick:g}") for tick in _round_ticks(most)]
    marks.append(_polyline(at))
    marks += [
        f'<circle fill="{_DATA}" cx="{x:.1f}" cy="{h:.1f}" r="3">'
        f"<title>layer {escape(name)}: {value:.3g}</title></circle>"
        for (x, h), (name, value) in zip(at, columns, strict=True)
    ]
    return _svg([*marks, *_names([name for name, _ in columns]), _unit(unit)])


def curve(points: Sequence[Point], below: str, unit: str) -> str:
    """Points joined by a line, both scales from numbers."""
    if len(points) < 2:
        return ""
    first, last = min(point.x for point in points), max(point.x for point in points)
    spread = (last - first) or 1.0
    top = 1.1 * max(point.y for point in points) or 1.0

    def x(value: float) -> float:
        return _LEFT + 14 + (WIDTH - _LEFT - _RIGHT - 40) * (value - first) / spread

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top

    ordered = sorted(points, key=lambda point: point.x)
    marks = [_grid(y(tick), f"{tick:g}") for tick in _round_ticks(top)]
    marks.append(_polyline([(x(point.x), y(point.y)) for point in ordered]))
    shown_to = -math.inf
    for point in ordered:
        marks.append(
            f'<circle fill="{_ASKED if point.asked else _DATA}" cx="{x(point.x):.1f}" cy="{y(point.y):.1f}" '
            f'r="{6 if point.asked else 4}"><title>{escape(point.told)}</title></circle>'
        )
        if x(point.x) - shown_to > 40:
            marks.append(
                f'<text text-anchor="middle" {_SMALL} x="{x(point.x):.1f}" y="{HEIGHT - 22}">{point.x:.4g}</text>'
            )
            shown_to = x(point.x)
    return _svg(
        [
            *marks,
            f'<text text-anchor="middle" {_SMALL} x="{WIDTH / 2}" y="{HEIGHT - 5}">{escape(below)}</text>',
            _unit(unit),
        ]
    )


def _polyline(at: Sequence[tuple[float, float]]) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    return f'<polyline fill="none" stroke="{_DATA}" stroke-width="2" points="{places}"/>'


def _column(place: int, count: int) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * (place + 0.5) / count


def _names(names: Sequence[str]) -> list[str]:
    """Below the columns; what stands behind a line's end in a name comes below that."""
    step = -(-len(names) // _NAMED_COLUMNS)
    return [
        f'<text text-anchor="middle" {_SMALL} x="{_column(place, len(names)):.1f}" '
        f'y="{HEIGHT - 22 + 14 * below}">{escape(part)}</text>'
        for place, name in enumerate(names)
        if place % step == 0
        for below, part in enumerate(name.split("\n"))
        if part
    ]


def _grid(at: float, name: str) -> str:
    return (
        f'<line stroke="#8a94a6" stroke-opacity="0.3" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        f'<text text-anchor="end" {_SMALL} x="{_LEFT - 8}" y="{at + 4:.1f}">{name}</text>'
    )


def _unit(name: str) -> str:
    return f'<text {_SMALL} x="4" y="12">{escape(name)}</text>'


def _svg(marks: Sequence[str]) -> str:
    body = "\n".join(marks)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n{body}\n</svg>'


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _round_ticks(most: float) -> list[float]:
    rough = most / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    return [float(f"{step * place:.6g}") for place in range(int(most / step + 1e-9) + 1)]
