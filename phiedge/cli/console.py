"""What verbs show: progress on stderr, tables and JSON on stdout.

Progress appears only on a terminal, and only for work that lasts over a second. Nothing here decides what is said.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from phiedge.progress import Progress, silent

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

# A model says what stands in pictures, a bundle how its tensors are called; neither must move the terminal's cursor or
# retitle its window.
SHOWN_CONTROL = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}

_DELAY_S = 1.0
_UNBOUNDED = 100_000


def emit_json(value: Mapping[str, object]) -> None:
    """Print the one JSON object of a verb on stdout."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False))


def show_table(
    title: str | None, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: str | Sequence[str] = ""
) -> None:
    """Print a table on stdout. `right` names the columns that are aligned to the right, as words or one by one.

    On a terminal it is fitted to the width by wrapping cells, in a pipe it is as wide as they are; none is ever cut.
    Without any name of a column there is no line of names, and no line ends in blanks.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", show_header=any(columns)
    )
    to_the_right = right.split() if isinstance(right, str) else right
    for column in columns:
        table.add_column(column, justify="right" if column in to_the_right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell.translate(SHOWN_CONTROL)) for cell in row))
    width = None if sys.stdout.isatty() else _UNBOUNDED
    console = Console(file=sys.stdout, width=width)
    with console.capture() as drawn:
        console.print(table)
    sys.stdout.writelines(f"{line.rstrip(' ')}\n" for line in drawn.get().splitlines())


def terminal_progress() -> Progress:
    """Progress bars on stderr if it is a terminal; otherwise silence."""
    return TerminalProgress() if sys.stderr.isatty() else silent


class TerminalProgress:
    """Progress bars that appear when the work has lasted a second, one line per task; tasks may nest."""

    def __init__(self, delay_s: float = _DELAY_S) -> None:
        self._delay_s = delay_s
        self._guard = threading.Lock()
        self._open_tasks = 0
        self._bars: RichProgress | None = None
        self._timer: threading.Timer | None = None
        self._shown = False

    @contextmanager
    def task(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        bars = self._enter()
        handle = bars.add_task(name, total=total, unit=unit)
        try:
            yield lambda count: bars.advance(handle, count)
        finally:
            self._leave()

    def _enter(self) -> "RichProgress":
        with self._guard:
            if self._bars is None:
                self._bars = _bars()
                self._timer = threading.Timer(self._delay_s, self._appear)
                self._timer.daemon = True
                self._timer.start()
            self._open_tasks += 1
            return self._bars

    def _appear(self) -> None:
        with self._guard:
            if self._bars is not None:
                self._bars.start()
                self._shown = True

    def _leave(self) -> None:
        with self._guard:
            self._open_tasks -= 1
            if self._open_tasks == 0 and self._bars is not None and self._timer is not None:
                self._timer.cancel()
                if self._shown:
                    self._bars.stop()
                self._bars, self._timer, self._shown = None, None, False


def _bars() -> "RichProgress":
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress
    from rich.progress import Task as RichTask
    from rich.text import Text

    class Amount(ProgressColumn):
        def render(self, task: RichTask) -> Text:
            done, total, unit = task.completed, task.total or 0, task.fields["unit"]
            if unit == "B":
                return Text(f"{done / 1e6:,.0f}/{total / 1e6:,.0f} MB")
            return Text(f"{done:.0f}/{total:.0f} {unit}")

    # As wide as 80 columns allow, and one bar under the other.
    columns = (TextColumn("{task.description:<22}"), BarColumn(bar_width=29), Amount(), TimeElapsedColumn())
    return RichProgress(*columns, console=Console(file=sys.stderr))
