"""Numbers of 8 bits with an exponent (E4M3: 448 at most) under a scale: a weight's one for each row, an input's one.

The scales that this gives are normal float16 numbers, so that every engine multiplies by the same number, whatever it
computes in.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from phiedge.errors import ExportError
from phiedge.exporters.quantised import RowErrors
from phiedge.exporters.values import Float32, StoredRows

LARGEST = 448.0
_FLOAT8 = ir.DataType.FLOAT8E4M3FN.numpy()
_SMALLEST_SCALE = 2.0**-14
LARGEST_SCALED = 65504 * LARGEST  # by the largest float16


@dataclass(frozen=True, slots=True, kw_only=True)
class Float8Weight:
    """Rows of a linear's weight [n, K] as `codes` (E4M3, uint8 here) times `scales` [n] float32."""

    codes: NDArray[np.uint8]
    scales: Float32

    def dequantise(self) -> Float32:
        """The float32 weights [n, K] that these codes stand for."""
        values: NDArray[Any] = self.codes.view(_FLOAT8)
        return values.astype(np.float32) * self.scales[:, None]


def round_rows(rows: StoredRows) -> tuple[Float8Weight, RowErrors]:
    """Rows of a tensor to the nearest codes. Raises `TensorError`, and `ExportError` for what no scale covers."""
    values = rows.float32()
    largest = float(np.abs(values).max())
    if largest > LARGEST_SCALED:
        raise ExportError(
            f"{rows.told}: {largest:g} does not fit float8, whose scale may be float16: {LARGEST_SCALED:g} at most",
            remedy="export with --precision fp32",
        )
    return quantise_rows(values)


def float8_scales(largest: NDArray[np.floating[Any]]) -> Float32:
    """The scales under which magnitudes up to `largest`, at most `LARGEST_SCALED` each, fit; whatever its shape."""
    assert (largest <= LARGEST_SCALED).all()
    wanted = np.maximum(np.asarray(largest, np.float32) / np.float32(LARGEST), np.float32(_SMALLEST_SCALE))
    scales: Float32 = wanted.astype(np.float16).astype(np.float32)
    return scales


def quantise_rows(weight: Float32) -> tuple[Float8Weight, RowErrors]:
    """Round rows [n, K] to the nearest codes, each row under the scale of its largest value."""
    scales = float8_scales(np.abs(weight).max(axis=1))
    codes = to_float8(weight / scales[:, None])
    quantised = Float8Weight(codes=codes, scales=scales)
    return quantised, RowErrors.of(weight, quantised.dequantise())


def to_float8(scaled: Float32) -> NDArray[np.uint8]:
    """The nearest codes; what is beyond the largest is the largest."""
    codes: NDArray[Any] = np.clip(scaled, -LARGEST, LARGEST).astype(_FLOAT8)
    return codes.view(np.uint8)
