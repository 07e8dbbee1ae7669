"""What every format keeps as plain numbers: norms, the embedding table, and the head.

Norms are float32 in a bundle, where calibration may have folded factors into them, and stay so. The embedding table
stays in the checkpoint's own type. The head of a bundle may be small integers, which readers do not take: it becomes
float16, code times scale rounded once, which is what an engine that computes in float16 multiplies by anyway
(docs/decisions/0941).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiedge.bundle import Bundle
from phiedge.errors import FormatError
from phiedge.exporters.checkpoints.stored import NUMPY_TYPES, StoredWeights, row_blocks
from phiedge.exporters.checkpoints.tensor_file import TensorOut

HEAD = "lm_head.weight"
SAFETENSORS_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def plain_tensor(weights: StoredWeights, stored: str, name: str | None = None) -> TensorOut:
    """A norm, bias or float weight, as it is stored, under the checkpoint's `name`."""
    dtype, shape = weights.plain(stored)
    row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(NUMPY_TYPES[dtype]).itemsize

    def parts() -> Iterator[NDArray[Any]]:
        for rows in row_blocks(shape[0], row_bytes):
            yield weights.read_plain(stored, rows)

    return TensorOut(name=name or stored, dtype=SAFETENSORS_TYPES[dtype], shape=shape, parts=parts)


def embedding_table(bundle: Bundle, name: str = "model.embed_tokens.weight") -> TensorOut:
    """The table of token embeddings, byte for byte."""
    table = bundle.manifest.embed_tokens
    rows, columns = table.shape
    kind = np.dtype(NUMPY_TYPES[table.dtype])

    def parts() -> Iterator[NDArray[Any]]:
        for block in row_blocks(rows, columns * kind.itemsize):
            count = (block.stop - block.start) * columns
            offset = block.start * columns * kind.itemsize
            yield np.fromfile(bundle.file(table.file), kind, count, offset=offset)

    return TensorOut(name=name, dtype=SAFETENSORS_TYPES[table.dtype], shape=table.shape, parts=parts)


def head(weights: StoredWeights, name: str = HEAD) -> TensorOut:
    """The head: as it is stored, or in float16 where it is integers."""
    found = weights.grouped(HEAD)
    if found is None:
        return plain_tensor(weights, HEAD, name)

    def parts() -> Iterator[NDArray[Any]]:
        for rows in row_blocks(found.rows, 4 * found.k):
            exact = weights.read_grouped(found, rows).dequantise()
            with np.errstate(over="ignore"):
                rounded = exact.astype(np.float16)
            if not np.isfinite(rounded).all():
                raise FormatError(
                    f"{HEAD}, rows {rows.start}:{rows.stop}: {np.abs(exact).max():g} does not fit float16",
                    remedy="export with --precision fp32 and convert with another tool; the model is damaged",
                )
            yield rounded

    return TensorOut(name=name, dtype="F16", shape=(found.rows, found.k), parts=parts)
