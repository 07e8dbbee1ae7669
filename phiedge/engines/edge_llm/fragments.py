"""How `Int4GroupwiseGemmPluginV2` of TensorRT Edge-LLM 0.11 stores codes, read back.

A weight [n, k] is cut into tiles of 128 outputs by 64 inputs, padded with zeros. A tile is 8 rows of 512 bytes: four
blocks of 16 inputs by two blocks of 64 outputs. A row is 128 words of 32 bits, one for each of 32 outputs and each of 4
pairs of inputs, and its 8 nibbles, the lowest first, are: the pair's even input of the lower and upper eight, the same
for the output 32 further on, and all of that for the odd input. A nibble is the code plus 8.

Source: what the exporter of the wheel 0.11.0 writes, probed with codes that are numbers of their places.
"""

import numpy as np
from numpy.typing import NDArray

TILE_OUTPUTS, TILE_INPUTS, ROWS_PER_TILE, ROW_BYTES = 128, 64, 8, 512


def stored_shape(n: int, k: int) -> tuple[int, int]:
    """The shape of the stored codes of a weight [n, k]."""
    return -(-n // TILE_OUTPUTS) * -(-k // TILE_INPUTS) * ROWS_PER_TILE, ROW_BYTES


def unpack_codes(stored: NDArray[np.int8], n: int, k: int) -> NDArray[np.int8]:
    """The codes [n, k], each in [-8, 7]."""
    assert stored.shape == stored_shape(n, k), (stored.shape, n, k)
    tiles_n, tiles_k = -(-n // TILE_OUTPUTS), -(-k // TILE_INPUTS)
    raw = np.ascontiguousarray(stored).view(np.uint8)
    nibbles = np.empty((raw.size, 2), dtype=np.int8)
    nibbles[:, 0] = (raw & 15).reshape(-1)
    nibbles[:, 1] = (raw >> 4).reshape(-1)
    #                        tile n, tile k, 16 inputs, 64 outputs, output, pair, odd, +32, +8
    places = nibbles.reshape(tiles_n, tiles_k, 4, 2, 32, 4, 2, 2, 2)
    ordered = places.transpose(0, 3, 7, 4, 1, 2, 8, 5, 6)
    codes = ordered.reshape(tiles_n * TILE_OUTPUTS, tiles_k * TILE_INPUTS)[:n, :k]
    result: NDArray[np.int8] = codes - np.int8(8)
    return result
