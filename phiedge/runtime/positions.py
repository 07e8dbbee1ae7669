"""Position embeddings for any grid of patches, from the model's square table.

The publisher resizes the table for each picture (bilinear, half-pixel centres, antialiased where the grid is smaller
than the table). That is linear and separable, each position being a mix of a few rows with weights that have a closed
form; the graph then needs no Resize operator, whose antialiased form few engines have.
"""

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from phiedge.runtime.preprocess import Grid

_KEPT_GRIDS = 4  # a camera or two; one full grid of the 15B model is 16.6 MB


def resize_weights(count: int, side: int) -> npt.NDArray[np.float64]:
    """How each of `count` positions mixes the `side` rows of the table: `[count, side]`, rows sum to 1.

    Triangular filter of radius max(1, side / count) around half-pixel centres, as torch's antialiased bilinear resize.
    """
    stretch = side / count
    radius = max(1.0, stretch)
    weights = np.zeros((count, side))
    for position in range(count):
        centre = (position + 0.5) * stretch
        first = max(int(centre - radius + 0.5), 0)
        last = min(int(centre + radius + 0.5), side)
        taps = np.arange(first, last)
        weights[position, first:last] = np.maximum(0.0, 1.0 - np.abs(taps - centre + 0.5) / radius)
    normalised: npt.NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return normalised


class PositionTable:
    """The table of one model, and the embeddings of the grids that were used last."""

    def __init__(self, table: npt.NDArray[np.float32], *, side: int, dtype: npt.DTypeLike = np.float32) -> None:
        assert table.shape[0] == side * side
        self._table = np.ascontiguousarray(table, dtype=np.float32)
        self._side = side
        self._dtype = np.dtype(dtype)
        self._kept: OrderedDict[Grid, npt.NDArray[np.floating]] = OrderedDict()

    def embed(self, grid: Grid) -> npt.NDArray[np.floating]:
        """The embeddings of `grid`, `[rows * columns, channels]`, row-major. Shared: read it, do not write it."""
        found = self._kept.get(grid)
        if found is None:
            found = self._interpolate(grid).astype(self._dtype, copy=False)
            found.flags.writeable = False
            self._kept[grid] = found
            if len(self._kept) > _KEPT_GRIDS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(grid)
        return found

    @property
    def known(self) -> frozenset[Grid]:
        """The grids whose embeddings are kept."""
        return frozenset(self._kept)

    def forget(self) -> None:
        """Keep none any more: for measuring what a new one takes."""
        self._kept.clear()

    def _interpolate(self, grid: Grid) -> npt.NDArray[np.float32]:
        side, channels = self._side, self._table.shape[1]
        widened = _mix(resize_weights(grid.columns, side), self._table.reshape(side, side, channels), axis=1)
        embedded = _mix(resize_weights(grid.rows, side), widened, axis=0)
        return embedded.reshape(grid.tokens, channels)


def _mix(weights: npt.NDArray[np.float64], values: npt.NDArray[np.float32], *, axis: int) -> npt.NDArray[np.float32]:
    """`weights: [count, side]` times `values` along `axis`, tap by tap and always in the same order.

    A matrix product would sum the many zeros, too, and split its sums by the number of cores: the last places of the
    result would differ between machines.
    """
    count, side = weights.shape
    first = (weights > 0).argmax(axis=1)
    taps = int((weights > 0).sum(axis=1).max())
    mixed = np.zeros((*values.shape[:axis], count, *values.shape[axis + 1 :]), dtype=np.float32)
    for tap in range(taps):
        place = np.minimum(first + tap, side - 1)
        share = np.where(first + tap < side, weights[np.arange(count), place], 0.0).astype(np.float32)
        mixed += share.reshape(-1, *[1] * (values.ndim - axis - 1)) * np.take(values, place, axis=axis)
    return mixed
