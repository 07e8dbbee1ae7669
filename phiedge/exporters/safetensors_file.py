"""One safetensors file: its header checked against its bytes, its tensors mapped only when they are asked for.

phiedge reads the format itself because numpy has no bfloat16 (such a tensor comes as its 16 bits, `uint16`), because
some rows of a tensor must not cost the whole of it, and because every way in which a file can be broken gets a name
here: cut short, with bytes left over, tensors that overlap or leave holes, a name twice, an unknown type. The format:
an 8-byte little-endian header length, a JSON header, then the tensors without gaps, row-major and little-endian.
"""

import hashlib
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from phiedge.errors import CheckpointError, TensorError
from phiedge.exporters.json_object import JsonObject, parse_object

Array: TypeAlias = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint16]
Dtype: TypeAlias = Literal["float32", "float16", "bfloat16"]

LENGTH_BYTES = 8
# What the format's own library accepts; a longer header is a file of another kind.
MAX_HEADER_BYTES = 100_000_000
STORED_TYPES: dict[str, tuple[Dtype, str]] = {
    "F32": ("float32", "<f4"),
    "F16": ("float16", "<f2"),
    "BF16": ("bfloat16", "<u2"),
}
# A zip archive, as torch.save writes, or a bare pickle of protocol 2 to 5.
_PICKLE_STARTS = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_REMEDY = "copy or download the file again"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """Where a tensor lies in its file; `start` counts bytes from the file's begin."""

    dtype: Dtype
    shape: tuple[int, ...]
    start: int
    size_bytes: int


class SafetensorsFile:
    """An open file; `tensors` says what it holds, `read` gives one tensor or some of its rows. Close it after use.

    `stamp` is its size, time of the last change in ns and inode when it was opened.
    """

    def __init__(self, path: Path) -> None:
        """Open the file and check its header. Raises `CheckpointError`, or `OSError` where the machine refuses."""
        self.path = path
        self._file = path.open("rb")
        try:
            status = os.fstat(self._file.fileno())
            self.size_bytes = status.st_size
            self.stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
            header, data_start = self._read_header()
            self.tensors = _layout(header, path, data_start, self.size_bytes)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file. Arrays that were read stay valid; each maps its own pages."""
        self._file.close()

    @property
    def descriptor(self) -> int:
        """The open file, to be read at any place."""
        return self._file.fileno()

    def check_unchanged(self) -> None:
        """Raises `CheckpointError` where the file was written to since it was opened."""
        status = os.fstat(self._file.fileno())
        if (status.st_size, status.st_mtime_ns, status.st_ino) != self.stamp:
            raise CheckpointError(
                f"{self.path} was changed while it was read",
                remedy="see that nothing else writes to the checkpoint, and export again",
            )

    def read(self, name: str, rows: slice | None = None) -> Array:
        """The tensor, or some rows along its first axis, as a read-only array over the mapped file; bfloat16 as bits.

        Nothing is read before the array's elements are; the mapping, and with it a file descriptor, ends with the
        array.
        """
        tensor = self.tensors[name]
        stored = np.dtype(next(kind for dtype, kind in STORED_TYPES.values() if dtype == tensor.dtype))
        start, shape = tensor.start, tensor.shape
        if rows is not None:
            first, stop = _row_range(rows, shape, name)
            start += first * (tensor.size_bytes // shape[0])
            shape = (stop - first, *shape[1:])
        count = int(np.prod(shape, dtype=np.int64))
        if count == 0:
            return np.empty(shape, dtype=stored)
        page_start = start - start % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(
            self._file.fileno(),
            start - page_start + count * stored.itemsize,
            offset=page_start,
            access=mmap.ACCESS_READ,
        )
        return np.frombuffer(mapped, dtype=stored, count=count, offset=start - page_start).reshape(shape)

    def _read_header(self) -> tuple[JsonObject, int]:
        """The parsed header, and where the tensors begin."""
        begin = self._file.read(LENGTH_BYTES)
        if len(begin) < LENGTH_BYTES:
            raise CheckpointError(f"{self.path} is cut short: it has {self.size_bytes} bytes", remedy=_REMEDY)
        length = int.from_bytes(begin, "little")
        if length > MAX_HEADER_BYTES:
            if begin[:2] in _PICKLE_STARTS:
                raise CheckpointError(
                    f"{self.path} is a pickle, whatever its name says; phiedge reads none, as pickles can run code",
                    remedy="convert the checkpoint to safetensors in a place that you trust",
                )
            raise CheckpointError(f"{self.path} is not safetensors: a header of {length} bytes", remedy=_REMEDY)
        if LENGTH_BYTES + length > self.size_bytes:
            raise CheckpointError(
                f"{self.path} is cut short: it has {self.size_bytes} bytes, its header ends at {LENGTH_BYTES + length}",
                remedy=_REMEDY,
            )
        header = self._file.read(length)
        self.header_sha256 = hashlib.sha256(begin + header).hexdigest()
        return parse_object(header, f"the header of {self.path}"), LENGTH_BYTES + length


def _layout(header: JsonObject, path: Path, data_start: int, file_bytes: int) -> dict[str, StoredTensor]:
    """Every tensor of the header, checked to fill the rest of the file exactly once."""
    tensors = {
        name: _stored_tensor(name, entry, path, data_start) for name, entry in header.items() if name != "__metadata__"
    }
    position, previous = data_start, None
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].size_bytes)):
        if tensor.start < position:
            raise TensorError(f"{path}: the tensors {previous} and {name} overlap", tensor=name, remedy=_REMEDY)
        if tensor.start > position:
            raise TensorError(
                f"{path}: {tensor.start - position} bytes before {name} belong to no tensor",
                tensor=name,
                remedy=_REMEDY,
            )
        position, previous = tensor.start + tensor.size_bytes, name
    if position > file_bytes:
        raise CheckpointError(
            f"{path} is cut short: it has {file_bytes} bytes, its tensors end at {position}", remedy=_REMEDY
        )
    if position < file_bytes:
        raise CheckpointError(
            f"{path} has {file_bytes} bytes, {file_bytes - position} more than its tensors take", remedy=_REMEDY
        )
    return tensors


def _stored_tensor(name: str, entry: object, path: Path, data_start: int) -> StoredTensor:
    if not isinstance(entry, dict):
        raise TensorError(f"{path}: the header's entry for {name} is not an object", tensor=name, remedy=_REMEDY)
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in STORED_TYPES:
        raise TensorError(
            f"{path}: {name} is stored as {dtype}, phiedge reads {', '.join(STORED_TYPES)}",
            tensor=name,
            remedy="give the checkpoint as it was published, not a quantised copy",
        )
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise TensorError(
            f"{path}: {name} has the shape {shape} and the offsets {offsets}", tensor=name, remedy=_REMEDY
        )
    meant, kind = STORED_TYPES[dtype]
    wanted_bytes = np.dtype(kind).itemsize
    for side in shape:
        wanted_bytes *= side
    if offsets[1] - offsets[0] != wanted_bytes:
        raise TensorError(
            f"{path}: {name} of shape {shape} needs {wanted_bytes} bytes, its offsets span {offsets[1] - offsets[0]}",
            tensor=name,
            remedy=_REMEDY,
        )
    return StoredTensor(dtype=meant, shape=tuple(shape), start=data_start + offsets[0], size_bytes=wanted_bytes)


def _are_counts(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _row_range(rows: slice, shape: tuple[int, ...], name: str) -> tuple[int, int]:
    assert shape, f"{name} has no rows"
    first, stop, step = rows.indices(shape[0])
    assert step == 1, "rows are read in order"
    return first, max(first, stop)
