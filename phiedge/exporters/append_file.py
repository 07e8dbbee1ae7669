"""A file that only grows, hashed while it is written: its digest is known without reading it again."""

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiedge.bundle import FileEntry

_READ_BYTES = 8 << 20


class AppendFile:
    """A file open for appending; get one from `fresh` or `resumed`."""

    def __init__(self, path: Path, flags: int) -> None:
        self.path = path
        self.size_bytes = 0
        self._digest = hashlib.sha256()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, 0o666)

    @staticmethod
    def fresh(path: Path) -> "AppendFile":
        """An empty file."""
        return AppendFile(path, os.O_TRUNC)

    @staticmethod
    def resumed(path: Path, held: FileEntry) -> "AppendFile | None":
        """The file that goes on after the bytes that `held` tells of; None where it does not begin with them.

        What comes after them is cut off.
        """
        file = AppendFile(path, 0)
        try:
            file._hash_beginning(held.bytes)
            if file.entry() == held:
                os.ftruncate(file._descriptor, held.bytes)
                os.lseek(file._descriptor, held.bytes, os.SEEK_SET)
                return file
        except BaseException:
            os.close(file._descriptor)
            raise
        os.close(file._descriptor)
        return None

    def __enter__(self) -> "AppendFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def append(self, part: NDArray[Any]) -> int:
        """Write an array's bytes, row-major and little-endian; return how many."""
        data = raw_bytes(part)
        self._digest.update(data)
        written_bytes = 0
        while written_bytes < len(data):
            written_bytes += os.write(self._descriptor, data[written_bytes:])
        self.size_bytes += written_bytes
        return written_bytes

    def pad_to(self, offset: int) -> None:
        """Write zeros up to `offset`."""
        assert offset >= self.size_bytes, f"{self.path.name} is already at {self.size_bytes}, beyond {offset}"
        if offset > self.size_bytes:
            self.append(np.zeros(offset - self.size_bytes, np.uint8))

    def entry(self) -> FileEntry:
        """The size and SHA-256 of what has been written so far."""
        return FileEntry(sha256=self._digest.hexdigest(), bytes=self.size_bytes)

    def flush(self) -> None:
        """Wait until the disk has it; may be called in another thread than `append`."""
        os.fdatasync(self._descriptor)

    def _hash_beginning(self, wanted_bytes: int) -> None:
        buffer = memoryview(bytearray(min(_READ_BYTES, wanted_bytes)))
        while self.size_bytes < wanted_bytes:
            count = os.preadv(self._descriptor, [buffer[: wanted_bytes - self.size_bytes]], self.size_bytes)
            if count == 0:
                return
            self._digest.update(buffer[:count])
            self.size_bytes += count


def raw_bytes(part: NDArray[Any]) -> memoryview:
    """An array as it is stored: row-major and little-endian."""
    little = np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data
