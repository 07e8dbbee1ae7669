"""Numbers as people read them, and tables of them."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def number(value: object, digits: int = 3) -> str:
    """A number to so many digits; a dash where there is none."""
    if isinstance(value, bool) or value is None:
        return "-" if value is None else str(value).lower()
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def percent(value: float | None, digits: int = 1) -> str:
    """A share in hundredths."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def megabytes(size_bytes: float) -> str:
    """Bytes as MB."""
    if size_bytes >= 1e9:
        return f"{size_bytes / 1e9:,.2f} GB"
    return f"{size_bytes / 1e6:,.{1 if size_bytes >= 1e7 else 3}f} MB"


def bar(share: float) -> str:
    """A bar as long as its share of the longest."""
    return f'<span class="bar" style="width: {120 * min(max(share, 0.0), 1.0):.0f}px"></span>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """A table of cells that are HTML already; columns named in `right` hold numbers."""
    classes = [' class="n"' if name in right else "" for name in head]
    top = "".join(f"<th{kind}>{escape(name)}</th>" for name, kind in zip(head, classes, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, classes, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"


def anything(value: Any) -> str:
    """A part of the report that has no drawing of its own: its numbers, however they are nested."""
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        head = list(dict.fromkeys(key for row in value for key in row))
        return table([_spaced(key) for key in head], [[_cell(row.get(key)) for key in head] for row in value])
    if isinstance(value, dict):
        plain = {key: part for key, part in value.items() if not isinstance(part, dict | list)}
        nested = {key: part for key, part in value.items() if key not in plain}
        parts = [table(("", ""), [(escape(_spaced(key)), _cell(part)) for key, part in plain.items()])] if plain else []
        if nested and all(isinstance(part, dict) and _is_flat(part) for part in nested.values()):
            rows = [{"": key, **part} for key, part in nested.items()]
            return "".join([*parts, anything(rows)])
        parts += [f"<h3>{escape(_spaced(key))}</h3>{anything(part)}" for key, part in nested.items()]
        return "".join(parts)
    return f"<p>{_cell(value)}</p>"


def _is_flat(value: dict[str, Any]) -> bool:
    return not any(isinstance(part, dict | list) for part in value.values())


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{escape(str(key))} {_cell(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(_cell(part) for part in value)
    return escape(number(value, 4))


def _spaced(key: str) -> str:
    return str(key).replace("_", " ")
