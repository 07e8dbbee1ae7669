"""The taps into the table of positions that Edge-LLM's runtime gives a packed vision graph: bilinear, four a patch.

Release 0.11 places them on the centres of cells for the encoder that we go by ("centres"); for others, and in older
releases, on the corners of the table ("corners"). Our graph must not care.
"""

from collections.abc import Iterable
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from phiedge.runtime.preprocess import Grid

Placement: TypeAlias = Literal["centres", "corners"]


def sample_taps(
    grids: Iterable[Grid], *, side: int, placement: Placement
) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    """Indices into the table of `side` x `side` and their weights, [4, patches of all grids]."""
    taps = [_of_grid(grid, side, placement) for grid in grids]
    indices = np.concatenate([indices for indices, _ in taps], axis=1)
    return indices, np.concatenate([weights for _, weights in taps], axis=1).astype(np.float16)


def _of_grid(grid: Grid, side: int, placement: Placement) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    down, across = _coordinates(grid.rows, side, placement), _coordinates(grid.columns, side, placement)
    top, left = np.floor(down).astype(np.int64), np.floor(across).astype(np.int64)
    bottom, right = np.minimum(top + 1, side - 1), np.minimum(left + 1, side - 1)
    low, far = down - top, across - left
    corners = ((top, 1 - low), (bottom, low)), ((left, 1 - far), (right, far))
    pairs = [(vertical, horizontal) for vertical in corners[0] for horizontal in corners[1]]
    indices = [(side * row[:, None] + column[None]).reshape(-1) for (row, _), (column, _) in pairs]
    weights = [(share[:, None] * other[None]).reshape(-1) for (_, share), (_, other) in pairs]
    return np.stack(indices), np.stack(weights).astype(np.float32)


def _coordinates(count: int, side: int, placement: Placement) -> NDArray[np.float32]:
    if placement == "corners":
        return np.linspace(0, side - 1, count, dtype=np.float32)
    centres = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * np.float32(side / count) - np.float32(0.5)
    clipped: NDArray[np.float32] = np.clip(centres, 0, side - 1).astype(np.float32)
    return clipped
