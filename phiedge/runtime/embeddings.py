"""Tables of a bundle, memory-mapped: the token embeddings and the position table.

A row is read when its token comes up, so a table of a gigabyte costs the rows in use. bfloat16 is widened by moving its
bits into the upper half of a float32, which is exact.
"""

import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phiedge.bundle import Bundle, Table
from phiedge.errors import BundleError

_STORED: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
}


def map_table(path: Path, table: Table) -> npt.NDArray[Any]:
    """The stored values of a table as a read-only array `shape`; bfloat16 as its uint16 bits. Raises `BundleError`."""
    dtype = _STORED[table.dtype]
    with path.open("rb") as file:
        size_bytes = path.stat().st_size
        if size_bytes != table.size_bytes:
            raise BundleError(
                f"{path} has {size_bytes} bytes, a {table.dtype} table of {list(table.shape)} has {table.size_bytes}",
                remedy="copy or export the bundle again",
            )
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    stored: npt.NDArray[Any] = np.frombuffer(mapping, dtype=dtype).reshape(table.shape)
    return stored


def read_positions(bundle: Bundle) -> npt.NDArray[np.float32]:
    """The table of position embeddings as float32."""
    table = bundle.manifest.positions
    widened = np.empty(table.shape, dtype=np.float32)
    _widen(map_table(bundle.file(table.file), table), widened)
    return widened


class EmbeddingTable:
    """Rows of the token embedding table, converted into arrays that the caller owns."""

    def __init__(self, bundle: Bundle) -> None:
        table = bundle.manifest.embed_tokens
        self._stored = map_table(bundle.file(table.file), table)

    def copy_rows(self, tokens: tuple[int, ...], out: npt.NDArray[Any]) -> None:
        """Write the embeddings of `tokens` into `out: [len(tokens), hidden]`, float32 or float16."""
        _widen(self._stored[list(tokens)], out)

    def writer(self, out: npt.NDArray[Any]) -> "RowWriter":
        """A way to write one embedding after the other into `out: [hidden]`, float32 or float16."""
        return RowWriter(self._stored, out)


class RowWriter:
    """Writes embeddings into one array that stays where it is, zeroed here and written by nobody else.

    After an engine has run, its weights have pushed the host's code and data out of the caches. So all views are made
    beforehand, and a row is one plain assignment: four times faster then than shifting bits.
    """

    def __init__(self, stored: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        self._stored = stored
        out.fill(0)
        self._out: npt.NDArray[Any] | None = None
        if stored.dtype != np.uint16:
            self._target = out
        elif out.dtype == np.float32:
            self._target = _halves(out)[..., 1]
        else:
            self._out, self._widened = out, np.zeros(out.shape, dtype=np.float32)
            self._target = _halves(self._widened)[..., 1]

    def write(self, token: int) -> None:
        """Write the embedding of `token`."""
        self._target[...] = self._stored[token]
        if self._out is not None:
            self._out[...] = self._widened


def _widen(stored: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Write stored values into `out` of the same shape; exact where `out` is float32."""
    if stored.dtype != np.uint16:
        out[...] = stored
        return
    widened = out if out.dtype == np.float32 else np.empty(out.shape, dtype=np.float32)
    halves = _halves(widened)
    halves[..., 0] = 0
    halves[..., 1] = stored
    if widened is not out:
        out[...] = widened


def _halves(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The 16-bit halves of float32 values, `[..., 2]`, the upper one last as in any little-endian machine."""
    assert sys.byteorder == "little"
    return values.view(np.uint16).reshape(*values.shape, 2)
