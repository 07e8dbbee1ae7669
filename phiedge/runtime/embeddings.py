"""Tables of a bundle, memory-mapped: the token embeddings and the position table.

A row is read when its token comes up, so a table of a gigabyte costs the rows in use. bfloat16 is widened by moving its
bits into the upper half of a float32, which is exact.
"""

import mmap
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
    stored = map_table(bundle.file(table.file), table)
    widened = np.empty(table.shape, dtype=np.float32)
    _widen(stored, widened)
    return widened


class EmbeddingTable:
    """Rows of the token embedding table, converted into arrays that the caller owns; one thread at a time."""

    def __init__(self, bundle: Bundle) -> None:
        table = bundle.manifest.embed_tokens
        self._stored = map_table(bundle.file(table.file), table)
        self._row = np.empty(table.shape[1], dtype=np.float32)

    def copy_row(self, token: int, out: npt.NDArray[Any]) -> None:
        """Write the embedding of `token` into `out: [hidden]`, float32 or float16."""
        if out.dtype == np.float32:
            _widen(self._stored[token], out)
        else:
            _widen(self._stored[token], self._row)
            np.copyto(out, self._row, casting="same_kind")

    def copy_rows(self, tokens: tuple[int, ...], out: npt.NDArray[Any]) -> None:
        """Write the embeddings of `tokens` into `out: [len(tokens), hidden]`."""
        for token, row in zip(tokens, out, strict=True):
            self.copy_row(token, row)


def _widen(stored: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Write stored values into float32 `out` of the same shape; exact for every stored type."""
    if stored.dtype == np.uint16:
        np.left_shift(stored, 16, out=out.view(np.uint32), dtype=np.uint32)
    else:
        np.copyto(out, stored, casting="same_kind")
