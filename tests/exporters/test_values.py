import numpy as np
import pytest

from phiedge.errors import TensorError
from phiedge.exporters import values as module
from phiedge.exporters.values import StoredRows, rows_per_block


def rows(values: np.ndarray, dtype: str, first_row: int = 0) -> StoredRows:
    return StoredRows(name="w", dtype=dtype, first_row=first_row, values=values)


def test_every_stored_type_is_a_float32_exactly() -> None:
    values = np.array([[1.5, -0.25, 65504.0]], np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    np.testing.assert_array_equal(rows(values, "float32").float32(), values)
    np.testing.assert_array_equal(rows(values.astype(np.float16), "float16").float32(), values)
    np.testing.assert_array_equal(rows(bits, "bfloat16").float32(), [[1.5, -0.25, 65280.0]])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("check", [StoredRows.check_finite, StoredRows.float32])
def test_what_is_not_finite_is_named_with_its_place_in_the_tensor(dtype: str, check, monkeypatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 7)
    values = np.zeros((5, 4), np.float32)
    values[3, 2] = np.inf
    stored = (values.view(np.uint32) >> 16).astype(np.uint16) if dtype == "bfloat16" else values.astype(dtype)
    with pytest.raises(TensorError, match=r"w\[13, 2\] is inf, weights must be finite"):
        check(rows(stored, dtype, first_row=10))


def test_the_largest_finite_bfloat16_is_finite() -> None:
    stored = np.array([0x7F7F, 0xFF7F, 0x8000], np.uint16)
    rows(stored, "bfloat16").check_finite()
    assert np.isfinite(rows(stored, "bfloat16").float32()).all()


@pytest.mark.parametrize(
    ("shape", "block_bytes", "expected"), [((10, 4), 16, 2), ((10, 4), 1, 1), ((10,), 6, 3), ((10, 2, 2), 24, 3)]
)
def test_a_block_has_as_many_whole_rows_as_fit_but_one_at_least(shape, block_bytes: int, expected: int) -> None:
    assert rows_per_block(shape, 2, block_bytes) == expected
