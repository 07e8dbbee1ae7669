"""Writing a bundle so that it is there whole or not at all.

    with BundleWriter("bundle") as writer:
        write_files_under(writer.path)
        bundle = writer.commit(manifest)

Everything is written into a sibling directory, `.bundle.partial-export`, which takes its final name after the manifest
(the last file) has reached the disk. A lock on it tells whether its writer lives, rather than a process id, which
containers and reboots hand out again; a second writer of the same bundle is refused. An error or an interrupt removes
it, and of what a killed process leaves nothing opens. A writer that keeps a journal in it (`JOURNAL_NAME`) may leave
it: then an interrupt or a full disk leaves it, too, and the next writer takes it up.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from phiedge.bundle.manifest import MANIFEST_NAME, FileEntry, Manifest
from phiedge.bundle.reading import (
    JOURNAL_NAME,
    PARTIAL_MARK,
    UNLISTED_DIRECTORIES,
    Bundle,
    found_files,
    hash_file,
    regular_size,
)
from phiedge.errors import BundleError
from phiedge.progress import Progress, silent

_REPLACED_MARK = ".replaced-"
_STABLE = "export"  # what follows the mark in the name of a partial directory that can be locked
_Stamp: TypeAlias = tuple[int, int, int]  # bytes, time of the last change in ns, inode
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class BundleWriter:
    """Collects the files of a bundle in `path` and gives them their final name on `commit`.

    An existing bundle is replaced only with `overwrite=True`, in one rename after another; a directory that holds
    anything else is never replaced. With `resume=True` what an earlier writer left there with a journal is still there.
    Raises `BundleError` on entry for a destination that cannot be used, or that another process is writing.
    """

    def __init__(self, destination: str | os.PathLike[str], *, overwrite: bool = False, resume: bool = False) -> None:
        self._destination = Path(destination).resolve()
        self._overwrite = overwrite
        self._resume = resume
        self._partial = _sibling(self._destination, PARTIAL_MARK, _STABLE)
        self._lock: int | None = None
        self._committed = False
        self._hashed: dict[str, tuple[_Stamp, FileEntry]] = {}

    @property
    def path(self) -> Path:
        """The directory to write the files into; it exists between entry and commit."""
        return self._partial

    @property
    def resumable(self) -> bool:
        """Whether a journal may be kept: not where the file system has no locks."""
        return self._resume and self._lock is not None

    def __enter__(self) -> "BundleWriter":
        _check_destination(self._destination, overwrite=self._overwrite)
        self._destination.parent.mkdir(parents=True, exist_ok=True)
        _clear_left_behind(self._destination)
        self._claim()
        try:
            if not (self.resumable and (self._partial / JOURNAL_NAME).exists()):
                _empty(self._partial)
        except BaseException:
            self._let_go(keep=False)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        full = isinstance(error, OSError) and error.errno in _NO_SPACE
        journalled = self.resumable and not self._committed and (self._partial / JOURNAL_NAME).exists()
        keep = journalled and (full or isinstance(error, KeyboardInterrupt))
        try:
            if full:
                raise self._no_space(keep=keep) from error
            if keep:
                raise KeyboardInterrupt(f"the same command goes on from there; or remove {self._partial}") from error
        finally:
            self._let_go(keep=keep)

    def _claim(self) -> None:
        """Make the partial directory this writer's, or refuse."""
        while self._lock is None:
            self._partial.mkdir(exist_ok=True)
            descriptor = os.open(self._partial, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise BundleError(
                    f"another process is writing {self._destination} at this moment",
                    remedy="wait until it has ended, or choose another name with -o",
                ) from None
            except OSError:  # no locks here: a name that no other process has, and no journal
                os.close(descriptor)
                self._partial = _sibling(self._destination, PARTIAL_MARK, str(os.getpid()))
                self._partial.mkdir()
                return
            if _is_at(descriptor, self._partial):
                self._lock = descriptor
            else:  # its writer removed or renamed it after we had opened it
                os.close(descriptor)

    def _let_go(self, *, keep: bool) -> None:
        if not keep and not self._committed:
            shutil.rmtree(self._partial, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def require_space(self, needed_bytes: int) -> None:
        """Refuse at once what the disk cannot hold; call it when the size of the bundle is known.

        What an earlier writer left counts as written.
        """
        free_bytes = shutil.disk_usage(self._partial).free
        held_bytes = self._present_bytes()
        if needed_bytes > free_bytes + held_bytes:
            written = f", of which {_megabytes(held_bytes)} are written" if held_bytes else ""
            raise BundleError(
                f"the bundle needs {_megabytes(needed_bytes)}{written}, "
                f"{self._destination.parent} has {_megabytes(free_bytes)} free",
                remedy="free some space, or write it elsewhere with -o",
            )

    def know(self, entries: Mapping[str, FileEntry]) -> None:
        """Take over hashes of files that were hashed while they were written; they are not read again."""
        for name, entry in entries.items():
            flush(self._partial / name)
            stamp = _stamp(self._partial / name)
            assert stamp[0] == entry.bytes, f"{name} has {stamp[0]} bytes instead of {entry.bytes}"
            self._hashed[name] = (stamp, entry)

    def preview(self, manifest: Manifest, progress: Progress = silent) -> Bundle:
        """The bundle as it stands, to be tried before `commit`; `manifest` names only files that are there already."""
        return Bundle(path=self._partial, manifest=replace(manifest, files=self._hash_files(progress)))

    def commit(self, manifest: Manifest, progress: Progress = silent) -> Bundle:
        """Hash the files, write `manifest` (given without them) with their hashes, and give the bundle its name."""
        entries = self._hash_files(progress)
        complete = replace(manifest, files=entries)
        _write_through(self._partial / MANIFEST_NAME, complete.to_bytes())
        for directory in {self._partial, *((self._partial / name).parent for name in entries)}:
            flush(directory)
        _check_destination(self._destination, overwrite=self._overwrite)
        (self._partial / JOURNAL_NAME).unlink(missing_ok=True)
        self._rename()
        self._committed = True
        flush(self._destination.parent)
        return Bundle.open(self._destination)

    def _hash_files(self, progress: Progress) -> dict[str, FileEntry]:
        sizes: dict[str, int] = {}
        for name in found_files(self._partial):
            if name == JOURNAL_NAME:
                continue
            size_bytes = regular_size(self._partial / name)
            assert size_bytes is not None, f"{name} is not a regular file"
            sizes[name] = size_bytes
        assert not any((self._partial / name).exists() for name in UNLISTED_DIRECTORIES)
        entries: dict[str, FileEntry] = {}
        with progress.task("hash", sum(sizes.values()), "B") as advance:
            for name, size_bytes in sizes.items():
                entries[name] = self._hash_file(name)
                advance(size_bytes)
        return entries

    def _hash_file(self, name: str) -> FileEntry:
        """The entry of a file; one that has not changed since it was last hashed is not read again."""
        file = self._partial / name
        stamp = _stamp(file)
        if name not in self._hashed or self._hashed[name][0] != stamp:
            flush(file)
            self._hashed[name] = (stamp, FileEntry(sha256=hash_file(file), bytes=stamp[0]))
        return self._hashed[name][1]

    def _rename(self) -> None:
        if not _is_bundle(self._destination):
            os.rename(self._partial, self._destination)  # onto nothing, or onto an empty directory
            return
        replaced = _sibling(self._destination, _REPLACED_MARK, str(os.getpid()))
        lock = _lock(self._destination)  # goes with it when it is moved aside: another writer must not bring it back
        try:
            os.rename(self._destination, replaced)
            os.rename(self._partial, self._destination)
        except BaseException:
            if replaced.exists() and not self._destination.exists():
                os.rename(replaced, self._destination)
            raise
        finally:
            if lock is not None:
                os.close(lock)
        shutil.rmtree(replaced, ignore_errors=True)

    def _present_bytes(self) -> int:
        return sum(regular_size(self._partial / name) or 0 for name in found_files(self._partial))

    def _no_space(self, *, keep: bool) -> BundleError:
        free_bytes = shutil.disk_usage(self._partial).free
        left = (
            f"the same command goes on from what is kept in {self._partial}"
            if keep
            else "nothing of this bundle was left behind"
        )
        return BundleError(
            f"the disk of {self._destination.parent} is full: {_megabytes(self._present_bytes())} of the bundle were "
            f"written, {_megabytes(free_bytes)} are free",
            remedy=f"free some space, or write it elsewhere with -o; {left}",
        )


def _stamp(file: Path) -> _Stamp:
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _sibling(destination: Path, mark: str, end: str) -> Path:
    return destination.parent / f".{destination.name}{mark}{end}"


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open directory is still the one of that name."""
    opened = os.fstat(descriptor)
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino)


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _check_destination(destination: Path, *, overwrite: bool) -> None:
    if not destination.name or PARTIAL_MARK in destination.name:
        raise BundleError(f"a bundle cannot be called {destination}", remedy="choose another name with -o")
    if not destination.exists():
        return
    if not destination.is_dir():
        raise BundleError(f"{destination} exists and is not a directory", remedy="choose another name with -o")
    if _is_bundle(destination):
        if not overwrite:
            raise BundleError(
                f"{destination} already holds a bundle", remedy="add --overwrite, or choose another name with -o"
            )
    elif any(destination.iterdir()):
        raise BundleError(
            f"{destination} holds files that are not a bundle and is left as it is",
            remedy="choose another name with -o",
        )


def _is_bundle(directory: Path) -> bool:
    """Whether a phiedge of any schema wrote it; other programs call their files manifest.json, too."""
    try:
        manifest = json.loads((directory / MANIFEST_NAME).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    return isinstance(manifest, dict) and {"schema_version", "phiedge_version"} <= manifest.keys()


def _clear_left_behind(destination: Path) -> None:
    """Remove what dead writers of the same bundle left; bring back a bundle that one of them had only moved aside."""
    prefix = f".{destination.name}"
    for mark in (_REPLACED_MARK, PARTIAL_MARK):
        for left in sorted(destination.parent.glob(f"{_literal(prefix + mark)}*")):
            if left.is_symlink() or not left.is_dir() or left.name == f"{prefix}{PARTIAL_MARK}{_STABLE}":
                continue
            lock = _lock(left)
            if lock is None:
                continue
            if mark == _REPLACED_MARK and not destination.exists():
                os.rename(left, destination)
            else:
                shutil.rmtree(left, ignore_errors=True)
            os.close(lock)


def _literal(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _lock(directory: Path) -> int | None:
    """A lock on a directory, as a descriptor to close; None where another holds it or the file system has no locks."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def flush(path: Path) -> None:
    """Wait until a file, or the names in a directory, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"
