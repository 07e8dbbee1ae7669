"""Writing an engine so that it is there whole or not at all.

    with EngineWriter(bundle, "onnxruntime-cpu") as writer:
        write_files_under(writer.path)
        engine = writer.commit(lambda files: EngineRecord(files=files, ...))

Files are written into `engines/.<name>.partial`, under a lock, which takes its name after `engine.json` has reached the
disk. Errors and interrupts remove it; the next builder removes what a killed one left. Two builders of one engine do
not run at once: the second is refused.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from phiedge.bundle import Bundle, FileEntry, hash_file
from phiedge.bundle.writing import flush
from phiedge.engines.engine_record import RECORD_NAME, BuiltEngine, EngineRecord, to_bytes
from phiedge.errors import BundleError
from phiedge.progress import Progress, silent

Describe: TypeAlias = Callable[[Mapping[str, FileEntry]], EngineRecord]


class EngineWriter:
    """Collects the files of an engine in `path` and gives them their name on `commit`."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        self._final = bundle.path / "engines" / name
        self._partial = self._final.with_name(f".{name}.partial")
        self._lock: int | None = None

    @property
    def path(self) -> Path:
        """The directory to write the files into; it exists between entry and commit."""
        return self._partial

    def __enter__(self) -> "EngineWriter":
        self._partial.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._partial, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(self._lock), self._partial.stat()):
                raise FileNotFoundError  # the other has just finished, and its directory is not here any more
        except OSError as error:
            os.close(self._lock)
            raise BundleError(
                f"{self._final} is being built by another process", remedy="wait until it is done, or stop it"
            ) from error
        for left in self._partial.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._partial.exists():
            shutil.rmtree(self._partial, ignore_errors=True)
        assert self._lock is not None
        os.close(self._lock)

    def require_space(self, needed_bytes: int) -> None:
        """Refuse at once what the disk cannot hold."""
        free_bytes = shutil.disk_usage(self._partial).free
        if needed_bytes > free_bytes:
            raise BundleError(
                f"the engine needs {needed_bytes / 1e9:.1f} GB, "
                f"{self._final.parent} has {free_bytes / 1e9:.1f} GB free",
                remedy="free some space, or copy the bundle to a larger disk",
            )

    def preview(self, describe: Describe) -> BuiltEngine:
        """The engine as it stands, to be tried before `commit`; its files are not hashed yet."""
        sizes = {name: path.stat().st_size for name, path in self._files().items()}
        files = {name: FileEntry(sha256="0" * 64, bytes=size_bytes) for name, size_bytes in sizes.items()}
        return BuiltEngine(path=self._partial, record=describe(files))

    def commit(self, describe: Describe, progress: Progress = silent) -> BuiltEngine:
        """Hash the files, write what `describe` makes of their entries, and give the engine its name."""
        files: dict[str, FileEntry] = {}
        paths = self._files()
        with progress.task("hash", sum(path.stat().st_size for path in paths.values()), "B") as advance:
            for name, path in paths.items():
                flush(path)
                files[name] = FileEntry(sha256=hash_file(path), bytes=path.stat().st_size)
                advance(files[name].bytes)
        record = describe(files)
        (self._partial / RECORD_NAME).write_bytes(to_bytes(record))
        flush(self._partial / RECORD_NAME)
        for directory in {path.parent for path in paths.values()} | {self._partial}:
            flush(directory)
        if self._final.exists():
            replaced = self._final.with_name(f".{self._final.name}.replaced")
            shutil.rmtree(replaced, ignore_errors=True)
            os.rename(self._final, replaced)
            os.rename(self._partial, self._final)
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            os.rename(self._partial, self._final)
        flush(self._final.parent)
        return BuiltEngine(path=self._final, record=record)

    def _files(self) -> dict[str, Path]:
        """The files that were written, by their names in the engine, also those in directories of their own."""
        paths = sorted(path for path in self._partial.rglob("*") if not path.is_dir())
        return {path.relative_to(self._partial).as_posix(): path for path in paths}
