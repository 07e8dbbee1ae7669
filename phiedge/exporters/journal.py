"""How far an export has come, on the disk beside what it has written, so that a killed one can go on.

An entry is written when the data that it speaks of has reached the disk, and replaces the one before it in one rename.
It says how long every data file was and the hash of that much, so whatever a dying machine left behind the last entry,
or lost before it, is found. Entries are far apart: an export that is over before the first is due leaves none.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from phiedge.bundle import FileEntry
from phiedge.bundle.reading import JOURNAL_NAME
from phiedge.bundle.record import decode, encode
from phiedge.errors import BundleError
from phiedge.exporters.quantised import QuantisedTensor

STEP_BYTES = 256 << 20  # of output between two entries
_MOST_STEPS = 3  # of output that the disk may be behind, so that stopping does not wait for long


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """What was finished when it was written.

    `key` stands for everything that the bytes depend on; `done` counts fills in the order of the stream, `files` are
    the data files up to there, `rows` the report's, and `sources` the source files that were read to their end.
    """

    key: str
    done: int
    files: Mapping[str, FileEntry]
    rows: tuple[QuantisedTensor, ...]
    sources: Mapping[str, FileEntry]


class Journal:
    """The journal of an export into `directory`; `entry` is what an earlier export with the same `key` left there.

    Entering it starts the thread that writes entries; leaving it waits for the one that is on its way.
    """

    def __init__(self, directory: Path, key: str, *, notice: Callable[[str], None]) -> None:
        """Look for an earlier export of the same. Another's is removed, and so is what no entry speaks of."""
        self.entry: JournalEntry | None = None
        self._key = key
        self._directory = directory
        self._notice = notice
        if (directory / JOURNAL_NAME).exists():
            self.entry = _read(directory / JOURNAL_NAME)
            if self.entry is None or self.entry.key != key:
                self.start_anew("it is of other weights, options or versions")
            else:
                _keep_only(directory, {JOURNAL_NAME, *self.entry.files})
        self._written_bytes = self.held_bytes
        self._pool: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None

    def __enter__(self) -> "Journal":
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="journal")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._pool is not None
        self._pool.shutdown(wait=True)

    @property
    def held_bytes(self) -> int:
        """How much of the data files is there already."""
        return sum(file.bytes for file in self.entry.files.values()) if self.entry is not None else 0

    def start_anew(self, why: str) -> None:
        """Remove what an earlier export left, and say so."""
        self._notice(f"what an earlier export left in {self._directory} was removed: {why}")
        self.entry = None
        self._written_bytes = 0
        # The journal goes first: without one, nobody takes what is left for anything.
        (self._directory / JOURNAL_NAME).unlink(missing_ok=True)
        _keep_only(self._directory, set())

    def consider(self, written_bytes: int, entry: Callable[[str], JournalEntry], flush: Callable[[], None]) -> None:
        """Write an entry where one is due: `flush` the data, then let `entry(key)` stand in the journal."""
        new_bytes = written_bytes - self._written_bytes
        if new_bytes < STEP_BYTES or (self._busy() and new_bytes < _MOST_STEPS * STEP_BYTES):
            return
        self._write(written_bytes, entry(self._key), flush)

    def close_with(self, entry: Callable[[str], JournalEntry], flush: Callable[[], None]) -> None:
        """Write a last entry, where there was one before, and wait until it is there."""
        if self.entry is not None or self._writing is not None:
            self._write(0, entry(self._key), flush)
            self._settle()

    def _write(self, written_bytes: int, entry: JournalEntry, flush: Callable[[], None]) -> None:
        assert self._pool is not None
        self._settle()
        self._written_bytes = written_bytes
        self._writing = self._pool.submit(_write_through, self._directory, entry, flush)

    def _busy(self) -> bool:
        return self._writing is not None and not self._writing.done()

    def _settle(self) -> None:
        """Wait for the entry that is on its way; an error that it met comes out here."""
        if self._writing is not None:
            self._writing.result()


def _write_through(directory: Path, entry: JournalEntry, flush: Callable[[], None]) -> None:
    flush()
    fresh = directory / f"{JOURNAL_NAME}.new"
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(encode(entry), file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(directory / JOURNAL_NAME)


def _read(journal: Path) -> JournalEntry | None:
    try:
        return decode(JournalEntry, json.loads(journal.read_bytes()), "the journal")
    except (ValueError, RecursionError, BundleError):
        return None


def _keep_only(directory: Path, names: Collection[str]) -> None:
    for path in directory.iterdir():
        if path.name in names:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
