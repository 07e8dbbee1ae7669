"""How long work reports its progress, without knowing who watches; the terminal's half is `phiedge.cli.console`.

A function that may take over a second takes `progress: Progress = silent` and wraps its loops:

    with progress.task("weights", total_bytes, "B") as advance:
        for part in parts:
            write(part)
            advance(len(part))
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Where progress is shown; `phiedge.progress.silent` shows it nowhere."""

    def task(self, name: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]:
        """Open a task of `total` units (`"B"` for bytes, otherwise a plural noun); the value advances it by a count."""
        ...


class _Silent:
    @contextmanager
    def task(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        yield lambda count: None


silent: Progress = _Silent()


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Another progress, in which every task's name ends with `label`: where the same work is done twice."""

    progress: Progress
    label: str

    def task(self, name: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]:
        return self.progress.task(f"{name} {self.label}", total, unit)
