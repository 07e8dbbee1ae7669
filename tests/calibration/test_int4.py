import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ort_graphs import open_graph
from phiedge.calibration.int4 import RoundToNearest, quantise_rtn
from phiedge.errors import ExportError
from phiedge.exporters.dialects.ort.packing import pack_matmul_nbits
from phiedge.exporters.quantised import QuantisedWeight
from phiedge.exporters.values import StoredRows

REAL = st.floats(-100, 100, width=32)


def normal(rows: int, k: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((rows, k)).astype(np.float32)


def as_matmul_nbits(weight: QuantisedWeight, *, accuracy_level: int) -> bytes:
    """A model of one MatMulNBits with these weights."""
    rows, k = weight.codes.shape
    packed = [
        ir.Value(name=name, const_value=ir.tensor(array))
        for name, array in zip(("codes", "scales"), pack_matmul_nbits(weight), strict=True)
    ]
    x = ir.Value(name="x", shape=ir.Shape(["t", k]), type=ir.TensorType(ir.DataType.FLOAT))
    attributes = {
        "K": k,
        "N": rows,
        "bits": weight.bits,
        "block_size": weight.group_size,
        "accuracy_level": accuracy_level,
    }
    node = ir.node("MatMulNBits", [x, *packed], attributes, domain="com.microsoft")
    y = node.outputs[0]
    y.name, y.shape, y.type = "y", ir.Shape(["t", rows]), ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x], [y], nodes=[node], initializers=packed, opset_imports={"": 23, "com.microsoft": 1})
    return ir.serde.serialize_model(ir.Model(graph, ir_version=10)).SerializeToString()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group_size", [32, 64, 128])
def test_onnx_runtime_dequantises_the_packed_weights_to_the_same_numbers(bits, group_size) -> None:
    weight = quantise_rtn(normal(24, 256), group_size, bits=bits)
    session = open_graph(as_matmul_nbits(weight, accuracy_level=1))
    unpacked = session.run(None, {"x": np.eye(256, dtype=np.float32)})[0].T
    np.testing.assert_array_equal(unpacked, weight.dequantise())


@pytest.mark.parametrize("bits", [4, 8])
def test_activations_rounded_to_int8_cost_about_a_percent(bits) -> None:
    weight = quantise_rtn(normal(24, 256), 32, bits=bits)
    x = normal(5, 256)
    exact = x @ weight.dequantise().T
    rounded = open_graph(as_matmul_nbits(weight, accuracy_level=4)).run(None, {"x": x})[0]
    assert 0 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < 0.015


@pytest.mark.parametrize("bits", [4, 8])
@settings(max_examples=50, deadline=None)
@given(values=hnp.arrays(np.float32, (3, 64), elements=REAL))
def test_every_weight_is_within_half_a_step_of_its_code(bits, values) -> None:
    weight = quantise_rtn(values, 32, bits=bits)
    top = 2 ** (bits - 1)
    assert weight.codes.min() >= -top
    assert weight.codes.max() <= top - 1
    assert (weight.scales > 0).all()
    np.testing.assert_array_equal(weight.scales.astype(np.float16).astype(np.float32), weight.scales)
    step = np.repeat(weight.scales, 32, axis=1)
    # A scale that was rounded down to float16 leaves the largest weight up to top * 2^-11 steps short; below the
    # smallest normal float16 the rounding is coarser, and the weights smaller than any that matters.
    slack = step * (0.5 + top * 2**-11) + np.float32(top * 2**-25)
    assert (np.abs(weight.dequantise() - values) <= slack).all()


def test_weights_on_the_grid_come_back_exactly() -> None:
    codes = np.tile(np.arange(-8, 8, dtype=np.float32), (2, 4))
    weight = quantise_rtn(codes * np.float32(0.25), 32)
    np.testing.assert_array_equal(weight.scales, 0.25)
    np.testing.assert_array_equal(weight.codes, codes)


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_are_packed_and_come_back(bits) -> None:
    top = 2 ** (bits - 1)
    codes = np.random.default_rng(0).integers(-top, top, (3, 64)).astype(np.int8)
    weight = QuantisedWeight.of_codes(codes, np.ones((3, 2), np.float32), bits=bits, group_size=32)
    assert weight.packed.shape == (3, 64 * bits // 8)
    np.testing.assert_array_equal(weight.codes, codes)


def test_a_group_of_zeros_stays_zero() -> None:
    weight = quantise_rtn(np.zeros((2, 64), np.float32), 32)
    assert not weight.dequantise().any()
    assert (weight.scales > 0).all()


def test_a_ragged_group_is_refused() -> None:
    with pytest.raises(ExportError, match="K = 96 is not a multiple of the group size 64"):
        quantise_rtn(normal(4, 96), 64)


def test_weights_whose_scale_exceeds_float16_are_refused_by_name() -> None:
    huge = np.full((2, 32), 1e6, np.float32)
    with pytest.raises(ExportError, match=r"^w, rows 4:6: a group's scale exceeds float16: weights reach 1e\+06"):
        rows = StoredRows(name="w", dtype="float32", first_row=4, values=huge)
        RoundToNearest().quantise(rows, bits=4, group_size=32)


def test_smaller_groups_and_more_bits_lose_less() -> None:
    values = normal(64, 512)

    def error(group_size: int, bits: int) -> float:
        return float(np.linalg.norm(quantise_rtn(values, group_size, bits=bits).dequantise() - values))

    assert error(32, 4) < error(64, 4) < error(128, 4)
    assert error(128, 8) < error(32, 4) / 10
