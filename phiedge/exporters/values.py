"""Rows of a checkpoint tensor as they are stored, and what they are as float32; weights must be finite."""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from phiedge.errors import TensorError
from phiedge.exporters.safetensors_file import Array, Dtype

Float32: TypeAlias = NDArray[np.float32]

_BLOCK_ELEMENTS = 1 << 20  # at a time, to spare the memory of a mask as long as the tensor
_BFLOAT16_INFINITY = 0x7F80  # the bits, without the sign; above it are the NaNs


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRows:
    """Rows of the tensor `name` from `first_row` on: `values` of the stored type, bfloat16 as its bits in uint16."""

    name: str
    dtype: Dtype
    first_row: int
    values: Array

    def __post_init__(self) -> None:
        assert (self.dtype == "bfloat16") == (self.values.dtype.kind == "u"), (self.dtype, self.values.dtype)

    @property
    def told(self) -> str:
        """The name and rows, for an error."""
        return f"{self.name}, rows {self.first_row}:{self.first_row + self.values.shape[0]}"

    def bits(self) -> NDArray[np.uint16]:
        """The bits of bfloat16 rows."""
        assert self.dtype == "bfloat16", self.dtype
        return self.values.view(np.uint16)

    def float32(self) -> Float32:
        """The rows as float32, exactly: every bfloat16 and float16 is a float32. Raises as `check_finite`."""
        values = self._widened()
        self._refuse_not_finite(values)
        return values

    def check_finite(self) -> None:
        """Raises `TensorError` naming the tensor and the first index where it is NaN or infinite."""
        if self.dtype != "bfloat16":
            self._refuse_not_finite(self.values)
            return
        flat = self.bits().reshape(-1)
        for start in range(0, flat.size, _BLOCK_ELEMENTS):
            if (flat[start : start + _BLOCK_ELEMENTS] & 0x7FFF).max() >= _BFLOAT16_INFINITY:
                self._refuse_not_finite(self._widened())

    def _widened(self) -> Float32:
        if self.dtype != "bfloat16":
            return self.values.astype(np.float32)
        widened = self.values.astype(np.uint32)  # the upper half of a float32
        widened <<= 16
        return widened.view(np.float32)

    def _refuse_not_finite(self, values: Array) -> None:
        wrong = _first_not_finite(values.reshape(-1))
        if wrong is None:
            return
        row, *rest = np.unravel_index(wrong, values.shape) if values.shape else (0,)
        index = ", ".join(str(part) for part in (int(row) + self.first_row, *map(int, rest))) if values.shape else ""
        raise TensorError(
            f"{self.name}[{index}] is {values.reshape(-1)[wrong]}, weights must be finite",
            tensor=self.name,
            remedy="copy or download the checkpoint again; if it was trained so, it cannot be exported",
        )


def _first_not_finite(flat: Array) -> int | None:
    """The index of the first NaN or infinity."""
    for start in range(0, flat.size, _BLOCK_ELEMENTS):
        finite = np.isfinite(flat[start : start + _BLOCK_ELEMENTS])
        if not finite.all():
            return start + int(np.argmin(finite))
    return None


def rows_per_block(shape: tuple[int, ...], item_bytes: int, block_bytes: int) -> int:
    """How many rows of a tensor make a block of at most `block_bytes`; at least one."""
    return max(1, block_bytes // max(1, item_bytes * math.prod(shape[1:])))
