"""What the tensor files of a checkpoint hold, whoever wrote them: names, types, shapes, and some values if asked."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiedge.errors import FormatError
from phiedge.exporters.safetensors_file import LENGTH_BYTES, MAX_HEADER_BYTES

_KINDS = {
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I8": "i1",
    "U8": "u1",
    "F8_E4M3": "u1",
}
_REMEDY = "write the checkpoint again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A tensor: the format's name of its type, its shape, and where its bytes begin in which file."""

    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int

    def read(self) -> NDArray[Any]:
        """Its values; types that numpy lacks come as their bits."""
        kind = np.dtype(_KINDS[self.dtype])
        return np.fromfile(self.file, kind, prod(self.shape), offset=self.start).reshape(self.shape)


def tensor_index(directory: Path) -> dict[str, Entry]:
    """Every tensor in the safetensors files of `directory`. Raises `FormatError` for a file that is cut short."""
    found: dict[str, Entry] = {}
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise FormatError(f"{directory} has no safetensors", remedy=_REMEDY)
    for path in files:
        found |= _of_file(path)
    return found


def _of_file(path: Path) -> dict[str, Entry]:
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if not 0 < length <= min(MAX_HEADER_BYTES, size_bytes - LENGTH_BYTES):
            raise FormatError(f"{path} is no safetensors file, or cut short at {size_bytes} bytes", remedy=_REMEDY)
        header = json.loads(file.read(length))
    entries = {}
    for name, said in header.items():
        if name == "__metadata__":
            continue
        start, stop = said["data_offsets"]
        if LENGTH_BYTES + length + stop > size_bytes:
            raise FormatError(
                f"{path} is cut short: {name} ends at {LENGTH_BYTES + length + stop}, the file at {size_bytes}",
                remedy=_REMEDY,
            )
        entries[name] = Entry(
            dtype=said["dtype"], shape=tuple(said["shape"]), file=path, start=LENGTH_BYTES + length + start
        )
    return entries
