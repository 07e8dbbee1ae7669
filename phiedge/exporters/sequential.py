"""One pass over weight files: every byte is read once, in order, hashed, and handed on in blocks of rows.

Hashing has a thread of its own, as it takes twice as long as reading: a block is hashed while the next one is read.

Bytes are read into buffers that are used again rather than mapped: what is read once has no business in the page cache,
where it would drive out what is being written, nor in this process's count of memory.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from phiedge.bundle import FileEntry
from phiedge.errors import CheckpointError
from phiedge.exporters.safetensors_file import STORED_TYPES, Array, SafetensorsFile, StoredTensor
from phiedge.exporters.source import Block
from phiedge.exporters.values import rows_per_block

Bytes = NDArray[np.uint8]

_DROP_BYTES = 64 << 20  # of the page cache at a time
_SMALL_FILE_BYTES = 256 << 20  # may stay in the page cache: it may be read again, and there is room


class Buffers:
    """Buffers of one size that go round; `take` makes a new one where all are out."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._free: list[Bytes] = []

    def take(self, size_bytes: int) -> Bytes:
        """A buffer of at least `size_bytes`."""
        if size_bytes > self._size_bytes:
            return np.empty(size_bytes, np.uint8)
        try:
            return self._free.pop()
        except IndexError:
            return np.empty(self._size_bytes, np.uint8)

    def give_back(self, buffer: Bytes) -> None:
        """The buffer is free again; one of another size is dropped."""
        if buffer.size == self._size_bytes:
            self._free.append(buffer)


def read_in_order(
    files: Sequence[SafetensorsFile],
    wanted: Collection[str],
    *,
    block_bytes: int,
    known: Mapping[str, FileEntry],
    found: Callable[[str, FileEntry], None],
) -> Iterator[Block]:
    """The `wanted` tensors of `files`, in the order of the files and of their places in them.

    Every file is hashed, and `found` told of it when its last byte was read; of those that are `known`, only what is
    wanted is read. Raises `CheckpointError` for a file that changes or is cut short meanwhile.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="weights-hash") as hasher:
        yield from _read_files(files, wanted, Buffers(block_bytes), block_bytes, known, found, hasher)


def _read_files(
    files: Sequence[SafetensorsFile],
    wanted: Collection[str],
    buffers: Buffers,
    block_bytes: int,
    known: Mapping[str, FileEntry],
    found: Callable[[str, FileEntry], None],
    hasher: Executor,
) -> Iterator[Block]:
    for file in files:
        reader = _Reader(file, hasher=None if file.path.name in known else hasher)
        if reader.hashed:
            reader.pass_over(min((t.start for t in file.tensors.values()), default=file.size_bytes), buffers)
        for name, tensor in sorted(file.tensors.items(), key=lambda item: (item[1].start, item[1].size_bytes)):
            if name in wanted:
                reader.seek(tensor.start)
                yield from _blocks(reader, name, tensor, buffers, block_bytes)
            elif reader.hashed:
                reader.pass_over(tensor.start + tensor.size_bytes, buffers)
        if reader.hashed:
            found(file.path.name, reader.entry())


def _blocks(reader: "_Reader", name: str, tensor: StoredTensor, buffers: Buffers, block_bytes: int) -> Iterator[Block]:
    stored = np.dtype(next(kind for dtype, kind in STORED_TYPES.values() if dtype == tensor.dtype))
    rows, *rest = tensor.shape
    row_bytes = tensor.size_bytes // rows if rows else 0
    step = rows_per_block(tensor.shape, stored.itemsize, block_bytes)
    for first in range(0, rows, step):
        shape = (min(step, rows - first), *rest)
        buffer = buffers.take(shape[0] * row_bytes)
        part = buffer[: shape[0] * row_bytes]
        hashed = reader.read_into(part)
        values = part.view(stored).reshape(shape)
        values.setflags(write=False)
        yield Block(
            name=name,
            dtype=tensor.dtype,
            first_row=first,
            shape=shape,
            load=partial(_itself, values),
            release=partial(_free, buffers, buffer, hashed),
        )


def _free(buffers: Buffers, buffer: Bytes, hashed: "Future[None] | None") -> None:
    if hashed is not None:
        hashed.result()
    buffers.give_back(buffer)


def _itself(values: Array) -> Array:
    return values


class _Reader:
    """A place in a file that moves forward; what it reads is hashed, if there is somebody to do it."""

    def __init__(self, file: SafetensorsFile, *, hasher: Executor | None) -> None:
        self.hashed = hasher is not None
        self._hasher = hasher
        self._hashing: Future[None] | None = None
        self._file = file
        self._position = self._dropped = 0
        self._digest = hashlib.sha256()
        _advise(file.descriptor, 0, 0, "POSIX_FADV_SEQUENTIAL")

    def seek(self, position: int) -> None:
        assert position == self._position or (position > self._position and not self.hashed), position
        self._position = position

    def read_into(self, target: Bytes) -> "Future[None] | None":
        """Fill `target`; where it is hashed, it must stay as it is until that is done."""
        view = target.data
        while len(view):
            count = os.preadv(self._file.descriptor, [view], self._position)
            if count == 0:
                raise CheckpointError(
                    f"{self._file.path} was cut short while it was read: it ends at {self._position} of "
                    f"{self._file.size_bytes} bytes",
                    remedy="see that nothing else writes to the checkpoint, and export again",
                )
            self._position += count
            view = view[count:]
        self._drop()
        if self._hasher is not None:
            self._hashing = self._hasher.submit(self._digest.update, target.data)
        return self._hashing

    def pass_over(self, end: int, buffers: Buffers) -> None:
        """Read and hash up to `end`, for the hash alone."""
        while self._position < end:
            buffer = buffers.take(1)
            hashed = self.read_into(buffer[: end - self._position])
            _free(buffers, buffer, hashed)

    def entry(self) -> FileEntry:
        if self._hashing is not None:
            self._hashing.result()
        self._file.check_unchanged()
        assert self._position == self._file.size_bytes, self._position
        return FileEntry(sha256=self._digest.hexdigest(), bytes=self._position)

    def _drop(self) -> None:
        read_bytes = self._position - self._dropped
        if read_bytes >= _DROP_BYTES and self._file.size_bytes >= _SMALL_FILE_BYTES:
            _advise(self._file.descriptor, self._dropped, read_bytes, "POSIX_FADV_DONTNEED")
            self._dropped = self._position


def _advise(descriptor: int, offset: int, size_bytes: int, advice: str) -> None:
    """Tell the kernel, where it is one that listens."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset, size_bytes, getattr(os, advice))
