"""Writes the tables of docs/reference/plan.md from the published measurements: `python docs/plan_page.py`.

A test compares the page with what this makes, so the two cannot drift apart. What stands outside the marks is kept.
"""

from pathlib import Path

from phiedge.devices import Source
from phiedge.devices.planning.efficiency import explained
from phiedge.devices.planning.published import Row, rows

PAGE = Path(__file__).with_name("reference") / "plan.md"
_BEGIN, _END = "<!-- measurements: begin -->\n", "<!-- measurements: end -->\n"
_COLUMNS = (
    "device",
    "engine",
    "model, stored or multiplied as",
    "tokens",
    "measured",
    "limit",
    "reached",
    "from the others",
    "source",
)


def page() -> str:
    """The page as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{tables()}\n{_END}{after}"


def tables() -> str:
    """What was measured, kind by kind, and what is not explained."""
    unexplained = [row for row in rows() if not explained(row)[1]]
    parts = []
    for kind, title in (("decode", "Tokens"), ("prefill", "Prompts")):
        of_kind = [row for row in rows() if row.kind == kind]
        parts.append(f"### {title}\n\n{_table([_COLUMNS, *map(_line, of_kind)])}")
    listed = "".join(f"- {row.title}: {_shares(row)}\n" for row in unexplained)
    parts.append(f"### Not explained\n\n{len(unexplained)} of {len(rows())} rows lie outside.\n\n{listed}")
    return "\n".join(parts)


def _line(row: Row) -> tuple[str, ...]:
    found, lies_within = explained(row)
    mark = "" if lies_within else " **outside**"
    note = f"; {row.note}" if row.note else ""
    return (
        row.machine.name,
        row.engine,
        f"{row.model.title}, {row.format}",
        str(row.tokens),
        f"{row.ms:.1f} ms",
        f"{row.limit_ms:.1f} ms",
        f"{row.share:.2f}",
        f"{found.least:.2f} to {found.most:.2f}{mark}",
        _link(row.source) + note,
    )


def _shares(row: Row) -> str:
    found, _ = explained(row)
    return f"{row.share:.2f} of the limit, where {found.evidence} let one expect {found.least:.2f} to {found.most:.2f}"


def _link(source: Source) -> str:
    return f"[{source.title}]({source.url})" if source.url else source.title


def _table(lines: list[tuple[str, ...]]) -> str:
    head, *body = lines
    return "".join("| " + " | ".join(cells) + " |\n" for cells in (head, tuple("---" for _ in head), *body))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
