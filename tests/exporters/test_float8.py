"""Numbers of 8 bits with an exponent: rounding, scales, and weights by row."""

import numpy as np
import onnx_ir as ir
import pytest

from phiedge.calibration.int4 import RoundToNearest
from phiedge.errors import ExportError, TensorError
from phiedge.exporters.float8 import LARGEST, float8_scales, quantise_rows, to_float8
from phiedge.exporters.values import StoredRows
from phiedge.exporters.weights import Float8Fill, Slot, convert

ALL = np.arange(256, dtype=np.uint8).view(ir.DataType.FLOAT8E4M3FN.numpy()).astype(np.float32)
NUMBERS = np.unique(ALL[np.isfinite(ALL)])


def fill(rows: int, k: int) -> Float8Fill:
    codes = Slot(name="w.float8", dtype=ir.DataType.FLOAT8E4M3FN, shape=(rows, k))
    scales = Slot(name="w.scales", dtype=ir.DataType.FLOAT16, shape=(rows,))
    return Float8Fill(source="w", shape=(rows, k), slots=(codes, scales))


def stored(values: np.ndarray) -> StoredRows:
    return StoredRows(name="w", dtype="float32", first_row=0, values=values)


def test_the_codes_are_those_of_the_nearest_numbers_and_nothing_is_beyond_the_largest() -> None:
    values = np.concatenate((NUMBERS, np.random.default_rng(5).normal(0, 100, 2000), [1e9, -1e9, 449, 0.0009]))
    values = values.astype(np.float32)
    found = ALL[to_float8(values)]
    distances = np.abs(found - np.clip(values, -LARGEST, LARGEST))
    np.testing.assert_array_equal(distances, np.abs(NUMBERS - np.clip(values, -LARGEST, LARGEST)[:, None]).min(axis=1))
    np.testing.assert_array_equal(found[: len(NUMBERS)], NUMBERS)


def test_scales_are_normal_float16_numbers() -> None:
    scales = float8_scales(np.array([0.0, 1e-9, 1.0, 448.0, 2.9e7]))
    np.testing.assert_array_equal(scales, scales.astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(scales, [2**-14, 2**-14, 1 / 448, 1, 2.9e7 / 448], rtol=5e-4)


def test_each_row_has_a_scale_of_its_own_and_a_sixteenth_of_error_at_most() -> None:
    weight = np.random.default_rng(6).normal(0, 0.02, (9, 64)).astype(np.float32)
    weight *= np.float32(10.0) ** np.arange(-3, 6, dtype=np.float32)[:, None]
    quantised, errors = quantise_rows(weight)
    found, difference = quantised.dequantise(), np.abs(quantised.dequantise() - weight)
    assert (difference <= np.abs(weight) / 16 + quantised.scales[:, None] * 2**-10 * 1.01).all()
    assert errors.largest == np.abs(found - weight).max()
    assert (np.sqrt(errors.squared_error / errors.squared_weight)[2:] < 0.03).all()


def test_rows_may_come_in_any_blocks() -> None:
    weight = np.random.default_rng(7).normal(0, 1, (8, 32)).astype(np.float32)
    (whole, scales), _ = convert(fill(8, 32), stored(weight), RoundToNearest())
    parts = [convert(fill(8, 32), stored(weight[rows]), RoundToNearest())[0] for rows in (slice(3), slice(3, 8))]
    np.testing.assert_array_equal(np.concatenate([codes for codes, _ in parts]), whole)
    np.testing.assert_array_equal(np.concatenate([of_rows for _, of_rows in parts]), scales)
    assert (whole.dtype, scales.dtype) == (np.uint8, np.float16)


def test_weights_that_are_too_large_or_no_numbers_are_refused() -> None:
    weight = np.ones((2, 32), np.float32)
    weight[1, 3] = 4e7
    with pytest.raises(ExportError, match=r"rows 0:2: 4e\+07 does not fit float8"):
        convert(fill(2, 32), stored(weight), RoundToNearest())
    weight[1, 3] = np.nan
    with pytest.raises(TensorError, match=r"w\[1, 3\] is nan"):
        convert(fill(2, 32), stored(weight), RoundToNearest())
