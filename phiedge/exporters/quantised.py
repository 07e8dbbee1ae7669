"""Weights as small integers in groups: the value that calibration hands to the weight writer, and its error report.

How codes and scales are chosen is calibration's business (`phiedge.calibration`), how a dialect stores them is its own.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from phiedge.exporters.values import Float32, StoredRows

if TYPE_CHECKING:
    from phiedge.exporters.float8 import Float8Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedWeight:
    """Rows of a linear's weight [n, K] as `codes * scales`, symmetric, in runs of `group_size` along K.

    packed: uint8 [n, K * bits / 8], codes plus 2^(bits-1), so that they are not negative; within a byte the lower bits
    hold the earlier code. scales: float32 [n, K / group_size], finite, positive, and each exactly representable in
    float16, so that every consumer multiplies by the same number.
    """

    packed: NDArray[np.uint8]
    scales: Float32
    bits: int
    group_size: int

    def __post_init__(self) -> None:
        rows, row_bytes = self.packed.shape
        assert self.bits in (4, 8), self.bits
        k = row_bytes * 8 // self.bits
        assert k % self.group_size == 0, (k, self.group_size)
        assert self.scales.shape == (rows, k // self.group_size), self.scales.shape

    @staticmethod
    def of_codes(codes: NDArray[np.int8], scales: Float32, *, bits: int, group_size: int) -> "QuantisedWeight":
        """The value for `codes: [n, K]`, each in [-2^(bits-1), 2^(bits-1) - 1]."""
        offset_codes = (codes.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
        packed = offset_codes if bits == 8 else offset_codes[:, 0::2] | (offset_codes[:, 1::2] << 4)
        return QuantisedWeight(packed=packed, scales=scales, bits=bits, group_size=group_size)

    @property
    def codes(self) -> NDArray[np.int8]:
        """The codes, int8 [n, K]."""
        if self.bits == 8:
            return (self.packed.astype(np.int16) - 128).astype(np.int8)
        halves = np.stack([self.packed & 15, self.packed >> 4], axis=2).reshape(self.packed.shape[0], -1)
        return halves.astype(np.int8) - np.int8(8)

    def dequantise(self) -> Float32:
        """The float32 weights [n, K] that these codes stand for."""
        codes = self.codes
        groups = codes.reshape(*self.scales.shape, self.group_size).astype(np.float32)
        return (groups * self.scales[:, :, None]).reshape(codes.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowErrors:
    """What quantisation cost, by row: the sums of squares of the error and of the weights, and the largest error.

    By row, because sums of rows do not depend on how the rows came in blocks.
    """

    squared_error: NDArray[np.float64]
    squared_weight: NDArray[np.float64]
    largest: float

    @staticmethod
    def between(weight: Float32, quantised: QuantisedWeight) -> "RowErrors":
        """The errors of `quantised` against the weights that it stands for."""
        return RowErrors.of(weight, quantised.dequantise())

    @staticmethod
    def of(weight: Float32, dequantised: Float32) -> "RowErrors":
        """The errors of weights that were rounded in whatever way."""
        difference = dequantised - weight
        return RowErrors(
            squared_error=np.square(difference, dtype=np.float64).sum(axis=1),
            squared_weight=np.square(weight, dtype=np.float64).sum(axis=1),
            largest=float(np.abs(difference).max(initial=0.0)),
        )


class Quantiser(Protocol):
    """Chooses codes and scales; `method` names it in reports.

    It is called with consecutive blocks of the rows of one tensor, so that no tensor is ever whole in memory, and from
    several threads at once. What needs to see a tensor or activations as a whole (AWQ, GPTQ) does so before and hands
    out its rows here.
    """

    @property
    def method(self) -> str: ...

    def quantise(self, weight: StoredRows, *, bits: int, group_size: int) -> tuple[QuantisedWeight, RowErrors]:
        """Quantise rows [n, K] of a checkpoint tensor. Raises `TensorError` where they are not finite."""
        ...

    def quantise_float8(self, weight: StoredRows) -> "tuple[Float8Weight, RowErrors]":
        """The same in 8-bit floats, with a scale for each row."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedTensor:
    """One row of the quantisation report: what became of a tensor, and how far it is from the original.

    `relative_l2` is |W - Q| / |W| over the tensor, `max_abs_error` the largest single difference, both to six digits;
    `stored_bytes` counts codes and scales as written, `accuracy_level` is what the engine may do to the activations
    (MatMulNBits: 4 is int8). `sha256` is of the codes as written, and the scales behind them.
    """

    name: str
    method: str
    bits: int
    group_size: int
    accuracy_level: int
    shape: tuple[int, int]
    relative_l2: float
    max_abs_error: float
    stored_bytes: int
    sha256: str
