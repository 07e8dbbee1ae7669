"""Round-to-nearest of bfloat16 weights in one pass through the cache: the bits of `int4.quantise_rtn`, and the error.

A few thousand groups are worked on at a time, so that every step finds its numbers in the cache and no step is a Python
loop. The groups are transposed first: what belongs to one group stands in one column, and maxima, divisions by the
scale and sums of a group are whole rows of numbers, which numpy does in vector instructions. The transposition moves
four weights (64 bits) at a time; a 32-bit half of those holds an even and an odd weight, which are the two that share a
byte later.

Three identities keep it short. A bfloat16 is the upper half of a float32. Adding 1.5 * 2^23 to a small float32 rounds
it to the nearest integer, ties to even, and leaves that integer in the lowest bits. And the rounding of a scale to a
normal float16 is an integer addition and a mask.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phiedge.exporters.quantised import QuantisedWeight, RowErrors
from phiedge.exporters.values import Float32

WEIGHTS_AT_ONCE = 1 << 18  # 1 MiB as float32: a level-2 cache
_ROUNDING = 1.5 * 2**23
_SMALLEST_NORMAL, _BEYOND_LARGEST = np.float32(2**-14), np.float32(65504)
_SMALLEST_SCALE = np.float32(2**-24)


class Rounder:
    """Quantises blocks of rows; it owns the memory between the steps, so every thread needs its own."""

    def __init__(self) -> None:
        self._scratch: _Scratch | None = None

    def quantise(
        self, weight: NDArray[np.uint16], *, bits: int, group_size: int
    ) -> tuple[QuantisedWeight, RowErrors] | None:
        """Quantise `weight: [n, K]`, bfloat16 as its bits, C-contiguous; K is a multiple of the group size.

        None where a scale is not a number that float16 has: weights are not finite, or are too large.
        """
        rows, k = weight.shape
        packed = np.empty((rows, k * bits // 8), np.uint8)
        scales = np.empty((rows, k // group_size), np.float32)
        squared_error, squared_weight = np.empty(rows, np.float64), np.empty(rows, np.float64)
        largest = 0.0
        step = max(1, WEIGHTS_AT_ONCE // k)
        for first in range(0, rows, step):
            part = slice(first, min(first + step, rows))
            groups = (part.stop - part.start) * (k // group_size)
            scratch = self._fitting(groups, group_size)
            if not _choose_scales(weight[part], scratch, bits, scales[part]):
                return None
            squares = scratch.sum_of_squares(scratch.values).reshape(-1, k // group_size)
            squared_weight[part] = squares.sum(axis=1, dtype=np.float64)
            _choose_codes(scratch, bits, packed[part])
            error, largest_part = _errors(scratch, bits)
            squared_error[part] = error.reshape(-1, k // group_size).sum(axis=1, dtype=np.float64)
            largest = max(largest, largest_part)
        quantised = QuantisedWeight(packed=packed, scales=scales, bits=bits, group_size=group_size)
        return quantised, RowErrors(squared_error=squared_error, squared_weight=squared_weight, largest=largest)

    def _fitting(self, groups: int, group_size: int) -> "_Scratch":
        if self._scratch is None or self._scratch.size != (groups, group_size):
            self._scratch = _Scratch.make(groups, group_size)
        return self._scratch


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scratch:
    """The memory between the steps for n groups of `4 q` weights.

    quads: uint64 [q, n], four weights each. values, rounded: float32 [2, q, 2 n]: the even weights, then the odd ones;
    a group is the columns 2 g and 2 g + 1. pairs: uint32 [q, 2 n]. scales: float32 [n], scales_twice: [2 n].
    """

    size: tuple[int, int]
    quads: NDArray[np.uint64]
    values: Float32
    rounded: Float32
    pairs: NDArray[np.uint32]
    scales: Float32
    scales_twice: Float32

    @staticmethod
    def make(groups: int, group_size: int) -> "_Scratch":
        quarter = group_size // 4
        return _Scratch(
            size=(groups, group_size),
            quads=np.empty((quarter, groups), np.uint64),
            values=np.empty((2, quarter, 2 * groups), np.float32),
            rounded=np.empty((2, quarter, 2 * groups), np.float32),
            pairs=np.empty((quarter, 2 * groups), np.uint32),
            scales=np.empty(groups, np.float32),
            scales_twice=np.empty(2 * groups, np.float32),
        )

    def sum_of_squares(self, values: Float32) -> Float32:
        """By group: [n]."""
        columns = np.einsum("ekj,ekj->j", values, values)
        halves: Float32 = columns[0::2] + columns[1::2]
        return halves


def _choose_scales(weight: NDArray[np.uint16], scratch: _Scratch, bits: int, scales: Float32) -> bool:
    """Transpose the weights, and find the scale of every group; False where one is no float16."""
    groups, group_size = scratch.size
    quarter, top = group_size // 4, 2 ** (bits - 1)
    np.copyto(scratch.quads, weight.reshape(-1).view(np.uint64).reshape(groups, quarter).T)
    both = scratch.quads.view(np.uint32)
    even, odd = scratch.values.view(np.uint32)
    np.left_shift(both, 16, out=even)
    np.bitwise_and(both, 0xFFFF0000, out=odd)
    columns = scratch.values.reshape(2 * quarter, 2 * groups)
    highest = np.maximum.reduce(columns, axis=0)
    lowest = np.minimum.reduce(columns, axis=0)
    highest = np.maximum(highest[0::2], highest[1::2])
    lowest = np.minimum(lowest[0::2], lowest[1::2])
    found = np.maximum(highest / np.float32(top - 1), lowest / np.float32(-top))
    np.maximum(found, _SMALLEST_SCALE, out=found)
    if not _round_to_float16(found, scratch.scales):
        return False
    scratch.scales_twice[0::2] = scratch.scales
    scratch.scales_twice[1::2] = scratch.scales
    np.copyto(scales.reshape(-1), scratch.scales)
    return True


def _round_to_float16(found: Float32, rounded: Float32) -> bool:
    """Round to the nearest float16, ties to even; False where one is not finite."""
    if found.min() >= _SMALLEST_NORMAL and found.max() < _BEYOND_LARGEST:
        integers = found.view(np.uint32)
        target = rounded.view(np.uint32)
        np.right_shift(integers, 13, out=target)
        np.bitwise_and(target, 1, out=target)
        np.add(target, 0xFFF, out=target)
        np.add(target, integers, out=target)
        np.bitwise_and(target, 0xFFFFE000, out=target)
        return True
    with np.errstate(over="ignore"):
        np.copyto(rounded, found.astype(np.float16))
    return bool(np.isfinite(rounded).all())


def _choose_codes(scratch: _Scratch, bits: int, packed: NDArray[np.uint8]) -> None:
    """Divide by the scales (in `values`), round (in `rounded`), and pack the codes."""
    groups, group_size = scratch.size
    quarter, top = group_size // 4, 2 ** (bits - 1)
    values, rounded, pairs = scratch.values, scratch.rounded, scratch.pairs
    np.divide(values, scratch.scales_twice, out=values)
    if scratch.scales.min() < _SMALLEST_NORMAL:  # only such a scale can be rounded down by so much
        np.clip(values, np.float32(-top), np.float32(top - 1), out=rounded)
        np.add(rounded, np.float32(_ROUNDING + top), out=rounded)
    else:
        np.add(values, np.float32(_ROUNDING + top), out=rounded)
    even, odd = rounded.view(np.uint32)
    np.left_shift(odd, bits, out=pairs)
    np.bitwise_or(pairs, even, out=pairs)
    if bits == 4:
        narrow = pairs.astype(np.uint8).view(np.uint16)
        np.copyto(packed.reshape(-1).view(np.uint16).reshape(groups, quarter), narrow.T)
    else:
        wide = pairs.astype(np.uint16).view(np.uint32)
        np.copyto(packed.reshape(-1).view(np.uint32).reshape(groups, quarter), wide.T)


def _errors(scratch: _Scratch, bits: int) -> tuple[Float32, float]:
    """The sum of the squared error by group [n], and the largest error; `rounded` is used up."""
    difference = scratch.rounded
    np.subtract(difference, np.float32(_ROUNDING + 2 ** (bits - 1)), out=difference)
    np.subtract(difference, scratch.values, out=difference)
    squared = scratch.sum_of_squares(difference) * np.square(scratch.scales)
    columns = difference.reshape(-1, 2 * scratch.size[0])
    furthest = np.maximum(np.maximum.reduce(columns, axis=0), -np.minimum.reduce(columns, axis=0))
    return squared, float((furthest * scratch.scales_twice).max())
