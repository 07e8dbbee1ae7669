"""The fast way gives the bits of the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from phiedge.calibration import rounding
from phiedge.calibration.int4 import RoundToNearest, quantise_rtn
from phiedge.errors import ExportError
from phiedge.exporters.quantised import RowErrors
from phiedge.exporters.values import StoredRows

INFINITY = 0x7F80


def rows_of(bits: np.ndarray) -> StoredRows:
    return StoredRows(name="w", dtype="bfloat16", first_row=0, values=np.ascontiguousarray(bits, np.uint16))


def normal(rows: int, k: int, scale: float = 0.02) -> StoredRows:
    values = np.random.default_rng(3).standard_normal((rows, k), dtype=np.float32) * np.float32(scale)
    return rows_of(values.view(np.uint32) >> 16)


def assert_same(weight: StoredRows, group_size: int, bits: int) -> None:
    values = weight.float32()
    quantised, errors = RoundToNearest().quantise(weight, bits=bits, group_size=group_size)
    defined = quantise_rtn(values, group_size, bits=bits)
    np.testing.assert_array_equal(quantised.scales, defined.scales)
    np.testing.assert_array_equal(quantised.packed, defined.packed)
    exact = RowErrors.between(values, defined)
    slack = 1e-9 * exact.squared_weight.max() + 1e-30  # squares of the smallest numbers vanish in float32
    np.testing.assert_allclose(errors.squared_error, exact.squared_error, rtol=1e-4, atol=slack)
    np.testing.assert_allclose(errors.squared_weight, exact.squared_weight, rtol=1e-5, atol=1e-30)
    assert errors.largest == pytest.approx(exact.largest, rel=1e-4, abs=1e-6 * float(np.abs(values).max()))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group_size", [32, 64, 128])
@pytest.mark.parametrize("scale", [0.02, 30.0, 1e-4, 1e-6, 1e-9])
def test_normal_weights_of_any_size(scale: float, group_size: int, bits: int) -> None:
    assert_same(normal(5, 256, scale), group_size, bits)


@pytest.mark.parametrize("bits", [4, 8])
@settings(max_examples=60, deadline=None)
@given(values=hnp.arrays(np.uint16, (2, 64), elements=st.integers(0, 0xFFFF).filter(lambda b: b & INFINITY < 0x4700)))
def test_any_bits_of_numbers_that_have_a_scale(bits: int, values: np.ndarray) -> None:
    assert_same(rows_of(values), 32, bits)


@pytest.mark.parametrize("step", [0.5, 0.25, 3.0])
def test_weights_half_way_between_two_codes_go_to_the_even_one(step: float) -> None:
    halves = np.arange(-16, 15, dtype=np.float32)[:, None] * np.float32(step / 2)
    values = np.tile(halves, (1, 64))
    values[:, ::32] = -8 * step  # fixes the scale at `step`
    assert_same(rows_of(values.view(np.uint32) >> 16), 32, 4)


def test_zeros_and_single_weights() -> None:
    bits = np.zeros((3, 64), np.uint16)
    bits[1, 40] = 0x3F80
    bits[2, 3] = 0x8001
    for width in (4, 8):
        assert_same(rows_of(bits), 32, width)


def test_the_bits_do_not_depend_on_how_much_is_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = normal(23, 128)
    whole, whole_errors = RoundToNearest().quantise(weight, bits=4, group_size=32)
    monkeypatch.setattr(rounding, "WEIGHTS_AT_ONCE", 300)
    parts, errors = RoundToNearest().quantise(weight, bits=4, group_size=32)
    np.testing.assert_array_equal(parts.packed, whole.packed)
    np.testing.assert_array_equal(parts.scales, whole.scales)
    np.testing.assert_array_equal(errors.squared_error, whole_errors.squared_error)
    np.testing.assert_array_equal(errors.squared_weight, whole_errors.squared_weight)
    assert errors.largest == whole_errors.largest


def test_a_scale_beyond_float16_is_refused_as_by_the_definition() -> None:
    with pytest.raises(ExportError, match="w, rows 0:2: a group's scale exceeds float16: weights reach"):
        RoundToNearest().quantise(normal(2, 64, 1e6), bits=4, group_size=32)
