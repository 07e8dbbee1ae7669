import numpy as np
import onnx_ir as ir
import pytest

from phiedge.calibration.int4 import RoundToNearest, quantise_rtn
from phiedge.errors import ExportError, TensorError
from phiedge.exporters.values import StoredRows
from phiedge.exporters.weights import DataFile, FloatFill, Slot, convert
from weight_fills import computed_fill, float_fill, grouped_fill


def stored(values: np.ndarray, *, first_row: int = 0) -> StoredRows:
    return StoredRows(name="w", dtype=str(values.dtype), first_row=first_row, values=values)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_a_tensor_in_the_slots_own_type_is_handed_on_as_it_is() -> None:
    bits = (normal(4, 8).view(np.uint32) >> 16).astype(np.uint16)
    rows = StoredRows(name="w", dtype="bfloat16", first_row=0, values=bits)
    (part,), errors = convert(float_fill("w", (4, 8), ir.DataType.BFLOAT16), rows, RoundToNearest())
    assert part is bits
    assert errors is None


@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT, ir.DataType.FLOAT16])
def test_other_types_are_cast(dtype: ir.DataType) -> None:
    values = normal(4, 8)
    (part,), _ = convert(float_fill("w", (4, 8), dtype), stored(values), RoundToNearest())
    np.testing.assert_array_equal(part, values.astype(dtype.numpy()))


def test_a_linear_becomes_codes_and_scales_with_its_errors() -> None:
    values = normal(6, 64)
    (codes, scales), errors = convert(grouped_fill("w", (6, 64)), stored(values), RoundToNearest())
    whole = quantise_rtn(values, 32)
    np.testing.assert_array_equal(codes.reshape(6, -1), whole.packed)
    np.testing.assert_array_equal(scales, whole.scales)
    difference = whole.dequantise() - values
    np.testing.assert_allclose(errors.squared_error, np.square(difference).sum(axis=1), rtol=1e-5)
    assert errors.largest == np.abs(difference).max()


def test_a_value_beyond_float16_is_refused_and_named() -> None:
    values = normal(4, 4)
    values[2, 1] = -7e4
    with pytest.raises(ExportError, match=r"w, rows 8:12: 70000 does not fit FLOAT16") as caught:
        convert(float_fill("w", (12, 4), ir.DataType.FLOAT16), stored(values, first_row=8), RoundToNearest())
    assert caught.value.remedy == "export with --precision fp32"


@pytest.mark.parametrize("fill", [float_fill("w", (4, 64), ir.DataType.BFLOAT16), grouped_fill("w", (4, 64))])
@pytest.mark.parametrize("bits", [0x7FC0, 0x7F80, 0xFF80])
def test_a_bfloat16_that_is_not_finite_is_refused_with_its_index(fill, bits: int) -> None:
    values = np.zeros((4, 64), np.uint16)
    values[3, 5] = bits
    rows = StoredRows(name="w", dtype="bfloat16", first_row=100, values=values)
    with pytest.raises(TensorError, match=r"w\[103, 5\] is -?(nan|inf), weights must be finite") as caught:
        convert(fill, rows, RoundToNearest())
    assert caught.value.tensor == "w"


def test_large_tensors_begin_on_a_page_and_small_ones_on_a_cache_line() -> None:
    fills = [float_fill("small", (3,)), float_fill("large", (512, 512)), float_fill("tail", (1,))]
    file = DataFile.lay_out("w.data", fills, {"small": 0, "large": 1, "tail": 2})
    assert [file.offsets[f"{name}.slot FLOAT"] for name in ("small", "large", "tail")] == [0, 4096, 4096 + (1 << 20)]
    assert file.size_bytes == 4096 + (1 << 20) + 4
    file = DataFile.lay_out("w.data", [float_fill("small", (3,)), float_fill("tail", (3,))], {"small": 0, "tail": 1})
    assert file.offsets["tail.slot FLOAT"] == 64


def test_a_file_is_laid_out_in_the_order_of_the_source_with_computed_values_first() -> None:
    fills = [float_fill("a", (3,)), float_fill("b", (3,)), computed_fill("c", [1.0])]
    file = DataFile.lay_out("w.data", fills, {"b": 0, "a": 1})
    assert sorted(file.offsets, key=lambda name: file.offsets[name]) == ["c FLOAT", "b.slot FLOAT", "a.slot FLOAT"]
    assert [fill.source for fill in file.fills] == [None, "b", "a"]


def test_what_two_graphs_have_in_common_is_laid_out_once() -> None:
    alias = Slot(name="other", dtype=ir.DataType.UINT32, shape=(3,), content="a.slot FLOAT")
    fills = [
        float_fill("a", (3,)),
        computed_fill("c", [1.0]),
        FloatFill(source="a", slot=alias),
        computed_fill("c", [1.0]),
    ]
    file = DataFile.lay_out("w.data", fills, {"a": 0})
    assert file.offsets == {"c FLOAT": 0, "a.slot FLOAT": 64}
    assert [fill.source for fill in file.fills] == [None, "a"]


def test_a_tensor_in_two_forms_is_a_mistake_of_a_dialect() -> None:
    fills = [float_fill("a", (3,)), float_fill("a", (3,), ir.DataType.FLOAT16)]
    with pytest.raises(AssertionError, match="a is wanted as"):
        DataFile.lay_out("w.data", fills, {"a": 0})
