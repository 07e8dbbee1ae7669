"""A checkpoint's directory, there whole or not at all.

Files are written into a sibling, `.<name>.partial-repack`, under a lock, which gets its name when all of them have
reached the disk. An error or an interrupt removes it; what a killed process left is removed by the next. A directory is
replaced only where phiedge wrote it (`RECORD_NAME`) and only if that is asked for.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from phiedge.bundle import hash_file
from phiedge.bundle.writing import flush
from phiedge.errors import FormatError
from phiedge.progress import Progress, silent

RECORD_NAME = "phiedge.json"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class CheckpointDirectory:
    """Collects the files of a checkpoint in `path` and gives them their name on `commit`."""

    def __init__(self, destination: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self._final = Path(destination).resolve()
        self._partial = self._final.with_name(f".{self._final.name}.partial-repack")
        self._overwrite = overwrite
        self._lock: int | None = None

    @property
    def path(self) -> Path:
        """The directory to write into; it exists between entry and commit."""
        return self._partial

    def __enter__(self) -> "CheckpointDirectory":
        check_destination(self._final, overwrite=self._overwrite)
        self._partial.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._partial, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = None
            raise FormatError(
                f"another process is writing {self._final} at this moment", remedy="wait until it has ended"
            ) from None
        for left in self._partial.iterdir():
            left.unlink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            free_bytes = shutil.disk_usage(self._final.parent).free
            raise FormatError(
                f"the disk of {self._final.parent} is full: {free_bytes / 1e6:,.1f} MB are free",
                remedy="free some space, or write it elsewhere with -o; nothing of this checkpoint was left behind",
            ) from error

    def require_space(self, needed_bytes: int) -> None:
        """Refuse at once what the disk cannot hold."""
        free_bytes = shutil.disk_usage(self._partial).free
        if needed_bytes > free_bytes:
            raise FormatError(
                f"the checkpoint needs {needed_bytes / 1e6:,.1f} MB, "
                f"{self._final.parent} has {free_bytes / 1e6:,.1f} MB free",
                remedy="free some space, or write it elsewhere with -o",
            )

    def write_json(self, name: str, value: Mapping[str, object]) -> None:
        """Write one object as a file of JSON."""
        text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        (self._partial / name).write_text(text + "\n", encoding="utf-8")

    def commit(self, record: Mapping[str, object], progress: Progress = silent) -> Path:
        """Write the record with the hash of every file, and give the directory its name."""
        files = {path.name: path.stat().st_size for path in sorted(self._partial.iterdir())}
        hashes: dict[str, object] = {}
        with progress.task("hash", sum(files.values()), "B") as advance:
            for name, size_bytes in files.items():
                flush(self._partial / name)
                hashes[name] = {"bytes": size_bytes, "sha256": hash_file(self._partial / name)}
                advance(size_bytes)
        self.write_json(RECORD_NAME, {**record, "files": hashes})
        flush(self._partial / RECORD_NAME)
        flush(self._partial)
        check_destination(self._final, overwrite=self._overwrite)
        self._rename()
        flush(self._final.parent)
        return self._final

    def _rename(self) -> None:
        if not self._final.exists():
            os.rename(self._partial, self._final)
            return
        replaced = self._final.with_name(f".{self._final.name}.replaced-{os.getpid()}")
        os.rename(self._final, replaced)
        try:
            os.rename(self._partial, self._final)
        except BaseException:
            os.rename(replaced, self._final)
            raise
        shutil.rmtree(replaced, ignore_errors=True)


def check_destination(destination: Path, *, overwrite: bool) -> None:
    """Refuse a destination that must not be replaced. Raises `FormatError`."""
    if not destination.exists():
        return
    if not destination.is_dir():
        raise FormatError(f"{destination} exists and is not a directory", remedy="choose another name with -o")
    if not any(destination.iterdir()):
        return
    if not (destination / RECORD_NAME).is_file():
        raise FormatError(
            f"{destination} holds files that are not a checkpoint of phiedge's and is left as it is",
            remedy="choose another name with -o",
        )
    if not overwrite:
        raise FormatError(
            f"{destination} already holds a checkpoint", remedy="add --overwrite, or choose another name with -o"
        )
