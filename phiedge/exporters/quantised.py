"""Weights as small integers in groups: the value that calibration hands to the weight writer, and its error report.

How codes and scales are chosen is calibration's business (`phiedge.calibration`), how they are packed is a dialect's.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedWeight:
    """Rows of a linear's weight [n, K] as `codes * scales`, symmetric, in runs of `group_size` along K.

    codes: int8 [n, K], in [-2^(bits-1), 2^(bits-1) - 1]. scales: float32 [n, K / group_size], finite, positive, and
    each exactly representable in float16, so that every consumer multiplies by the same number.
    """

    codes: NDArray[np.int8]
    scales: Float32
    bits: int
    group_size: int

    def __post_init__(self) -> None:
        rows, k = self.codes.shape
        assert self.bits in (4, 8), self.bits
        assert k % self.group_size == 0, (k, self.group_size)
        assert self.scales.shape == (rows, k // self.group_size), self.scales.shape

    def dequantise(self) -> Float32:
        """The float32 weights [n, K] that these codes stand for."""
        groups = self.codes.reshape(*self.scales.shape, self.group_size).astype(np.float32)
        return (groups * self.scales[:, :, None]).reshape(self.codes.shape)


class Quantiser(Protocol):
    """Chooses codes and scales; `method` names it in reports.

    It is called with consecutive blocks of the rows of one tensor, so that no tensor is ever whole in memory. What
    needs to see a tensor or activations as a whole (AWQ, GPTQ) does so before and hands out its rows here.
    """

    @property
    def method(self) -> str: ...

    def quantise(self, name: str, rows: slice, weight: Float32, *, bits: int, group_size: int) -> QuantisedWeight:
        """Quantise `weight: [n, K]`, which are the rows `rows` of the checkpoint tensor `name`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedTensor:
    """One row of the quantisation report: what became of a tensor, and how far it is from the original.

    `relative_l2` is |W - Q| / |W| over the tensor, `max_abs_error` the largest single difference; `stored_bytes` counts
    codes and scales as written, `accuracy_level` is what the engine may do to the activations (MatMulNBits: 4 is int8).
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
