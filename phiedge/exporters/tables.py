"""The two tables that the host reads beside the graphs: token embeddings and position embeddings."""

import math
from pathlib import Path
from typing import Protocol

import numpy as np

from phiedge.bundle import Table
from phiedge.bundle.manifest import ITEM_BYTES, Dtype
from phiedge.exporters.tensors import EMBEDDING_TABLE, POSITION_TABLE
from phiedge.exporters.weights import Array, WeightSource, float_rows
from phiedge.progress import Progress, silent

EMBEDDINGS_FILE, POSITIONS_FILE = "embed_tokens.bin", "position_table.bin"


class TableSource(WeightSource, Protocol):
    """The part of a checkpoint that is copied as it is stored."""

    def dtype(self, name: str) -> Dtype: ...

    def tensor(self, name: str, rows: slice | None = None) -> Array: ...


def tables_bytes(source: TableSource) -> int:
    """What `write_embeddings` and `write_positions` write together."""
    embeddings_bytes = ITEM_BYTES[source.dtype(EMBEDDING_TABLE)] * math.prod(source.shape(EMBEDDING_TABLE))
    return embeddings_bytes + ITEM_BYTES["float32"] * math.prod(source.shape(POSITION_TABLE))


def write_embeddings(source: TableSource, out_dir: Path, *, progress: Progress = silent) -> Table:
    """Copy the embedding table in the checkpoint's own type, row-major and little-endian; values must be finite."""
    rows, columns = source.shape(EMBEDDING_TABLE)
    with (out_dir / EMBEDDINGS_FILE).open("wb") as file, progress.task("write embeddings", rows, "rows") as advance:
        for block, _finite in float_rows(source, EMBEDDING_TABLE):
            stored = source.tensor(EMBEDDING_TABLE, block)
            file.write(np.ascontiguousarray(stored, dtype=stored.dtype.newbyteorder("<")).data)
            advance(block.stop - block.start)
    return Table(file=EMBEDDINGS_FILE, dtype=source.dtype(EMBEDDING_TABLE), shape=(rows, columns))


def write_positions(source: TableSource, out_dir: Path) -> Table:
    """Write the position table as float32: the host interpolates in it."""
    table = source.float32(POSITION_TABLE)
    (out_dir / POSITIONS_FILE).write_bytes(table.astype("<f4").tobytes())
    rows, columns = table.shape
    return Table(file=POSITIONS_FILE, dtype="float32", shape=(rows, columns))
