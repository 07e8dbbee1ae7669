"""Symmetric round-to-nearest in groups, for 4 and 8 bits: no data needed, every weight for itself.

Scales are rounded to float16 *before* the codes are chosen, so that the codes fit the scale that is stored. They are
positive, which TensorRT demands, so the asymmetry of signed integers is used as it falls: [-8, 7] covers a group with
the scale max(max / 7, -min / 8), and nothing is clipped.

`quantise_rtn` defines the method; `rounding.py` does the same faster for bfloat16, bit for bit.
"""

import sys
import threading
from dataclasses import dataclass, field

import numpy as np

from phiedge.calibration.rounding import Rounder
from phiedge.errors import ExportError
from phiedge.exporters.float8 import Float8Weight, round_rows
from phiedge.exporters.quantised import QuantisedWeight, Quantiser, RowErrors
from phiedge.exporters.values import Float32, StoredRows

__all__ = ["QuantisedWeight", "Quantiser", "RoundToNearest", "quantise_rtn"]

SMALLEST_SCALE = np.float32(2**-24)  # the smallest float16 above zero; a group of zeros needs some positive scale


def quantise_rtn(weight: Float32, group_size: int, *, bits: int = 4) -> QuantisedWeight:
    """Quantise `weight: [n, K]`, finite, in groups of `group_size` along K.

    Raises `ExportError` where K is not a multiple of the group size, or where a scale does not fit float16.
    """
    rows, k = weight.shape
    if k % group_size:
        raise ExportError(
            f"K = {k} is not a multiple of the group size {group_size}", remedy="use a group size that divides K"
        )
    groups = weight.reshape(rows, k // group_size, group_size)
    top = 2 ** (bits - 1)
    scales = np.maximum(groups.max(axis=2) / np.float32(top - 1), groups.min(axis=2) / np.float32(-top))
    scales = np.maximum(scales, SMALLEST_SCALE)
    with np.errstate(over="ignore"):
        scales = scales.astype(np.float16).astype(np.float32)
    if not np.isfinite(scales).all():
        raise ExportError(
            f"a group's scale exceeds float16: weights reach {np.abs(weight).max():g}",
            remedy="export with --precision fp32, if these weights are meant to be so large",
        )
    codes = np.rint(groups / scales[:, :, None]).clip(-top, top - 1).astype(np.int8)
    return QuantisedWeight.of_codes(codes.reshape(rows, k), scales, bits=bits, group_size=group_size)


@dataclass(frozen=True, slots=True)
class RoundToNearest:
    """The quantiser that needs no calibration data."""

    method: str = "rtn"
    _of_thread: threading.local = field(default_factory=threading.local, repr=False, compare=False)

    def quantise(self, weight: StoredRows, *, bits: int, group_size: int) -> tuple[QuantisedWeight, RowErrors]:
        """Quantise rows of a tensor; errors name the tensor and the rows."""
        if weight.dtype == "bfloat16" and sys.byteorder == "little" and group_size % 8 == 0:
            rounded = self._rounder().quantise(weight.bits(), bits=bits, group_size=group_size)
            if rounded is not None:
                return rounded
        values = weight.float32()
        try:
            quantised = quantise_rtn(values, group_size, bits=bits)
        except ExportError as error:
            raise ExportError(f"{weight.told}: {error.message}", remedy=error.remedy) from error
        return quantised, RowErrors.between(values, quantised)

    def quantise_float8(self, weight: StoredRows) -> tuple[Float8Weight, RowErrors]:
        """The nearest 8-bit floats, each row under the scale of its largest weight."""
        return round_rows(weight)

    def _rounder(self) -> Rounder:
        """This thread's own; its memory is used again for every block."""
        if not hasattr(self._of_thread, "rounder"):
            self._of_thread.rounder = Rounder()
        rounder: Rounder = self._of_thread.rounder
        return rounder
