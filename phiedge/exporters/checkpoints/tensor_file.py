"""Writing safetensors files whose tensors are made one after the other, so that memory never holds two of them.

The format needs every tensor's place before the first is written; their types and shapes are known, their values come
in their turn. A model larger than `SHARD_BYTES` is split between tensors, with the index that readers look for.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiedge.exporters.weight_files import INDEX_FILE, SINGLE_FILE
from phiedge.progress import Progress, silent

SHARD_BYTES = 4_000_000_000
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I8": 1, "U8": 1, "F8_E4M3": 1}
_ALIGN_BYTES = 8  # of the header, as the format's own library writes it
Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorOut:
    """A tensor to be written: `parts` makes its values, row-major, in as many arrays as it likes.

    `dtype` is the format's name of the type: F32, F16, BF16, I64, I32, I8, U8, F8_E4M3.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    parts: Callable[[], Iterable[Array]]

    @property
    def size_bytes(self) -> int:
        return prod(self.shape) * _ITEM_BYTES[self.dtype]

    @staticmethod
    def of(name: str, dtype: str, values: Array) -> "TensorOut":
        """A small tensor whose values are there already."""
        return TensorOut(name=name, dtype=dtype, shape=values.shape, parts=lambda: (values,))


def write_tensors(
    directory: Path, tensors: Sequence[TensorOut], *, single_file: str | None = None, progress: Progress = silent
) -> tuple[str, ...]:
    """Write `model.safetensors`, or shards and their index, into `directory`; returns the names of the files.

    With `single_file` there is one file of that name, however large.
    """
    shards = list(_shards(tensors)) if single_file is None else [list(tensors)]
    total_bytes = sum(tensor.size_bytes for tensor in tensors)
    count = len(shards)
    names = [single_file or SINGLE_FILE] if count == 1 else [_shard_name(n, count) for n in range(1, count + 1)]
    with progress.task("write weights", total_bytes, "B") as advance:
        for name, shard in zip(names, shards, strict=True):
            write_file(directory / name, shard, advance=advance)
    if len(shards) == 1:
        return tuple(names)
    homes = {tensor.name: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
    index = {"metadata": {"total_size": total_bytes}, "weight_map": dict(sorted(homes.items()))}
    (directory / INDEX_FILE).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return (*names, INDEX_FILE)


def write_file(
    path: Path, tensors: Sequence[TensorOut], *, advance: Callable[[int], None] = lambda count: None
) -> None:
    """Write one safetensors file and wait until it has reached the disk."""
    with path.open("wb") as file:
        file.write(_header(tensors))
        for tensor in tensors:
            written = 0
            for part in tensor.parts():
                data = np.ascontiguousarray(part)
                file.write(data.data.cast("B") if data.size else b"")
                written += data.nbytes
                advance(data.nbytes)
            assert written == tensor.size_bytes, f"{tensor.name}: {written} bytes instead of {tensor.size_bytes}"
        file.flush()
        os.fsync(file.fileno())


def needed_bytes(tensors: Sequence[TensorOut]) -> int:
    """What the files of `write_tensors` take, their headers included."""
    return sum(tensor.size_bytes for tensor in tensors) + sum(len(_header(shard)) for shard in _shards(tensors))


def _header(tensors: Sequence[TensorOut]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        assert tensor.name not in entries, f"{tensor.name} is written twice"
        start, end = end, end + tensor.size_bytes
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGN_BYTES)
    return len(text).to_bytes(8, "little") + text


def _shards(tensors: Sequence[TensorOut]) -> Iterator[list[TensorOut]]:
    shard: list[TensorOut] = []
    held_bytes = 0
    for tensor in tensors:
        if shard and held_bytes + tensor.size_bytes > SHARD_BYTES:
            yield shard
            shard, held_bytes = [], 0
        shard.append(tensor)
        held_bytes += tensor.size_bytes
    yield shard


def _shard_name(number: int, count: int) -> str:
    return f"model-{number:05d}-of-{count:05d}.safetensors"
