import numpy as np
import onnx
import pytest

from phiedge.engines.onnxruntime.library import ort
from phiedge.engines.onnxruntime.one_node import one_by_one, one_product

CASES = {
    "MatMul": (np.float32, np.float32, np.float32),
    "MatMulInteger": (np.int8, np.uint8, np.int32),
}


@pytest.mark.parametrize("operator", CASES)
def test_the_bytes_are_a_model_that_onnx_approves(operator: str) -> None:
    weight_type, input_type, output_type = CASES[operator]
    weights = np.arange(300 * 5).reshape(300, 5).astype(weight_type)
    data = one_product(operator, rows=7, weights=weights, input_type=input_type, output_type=output_type)
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == [operator]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(model.graph.initializer[0]), weights)


@pytest.mark.parametrize("operator", CASES)
def test_the_model_computes_the_product(operator: str) -> None:
    weight_type, input_type, output_type = CASES[operator]
    weights = (np.arange(20).reshape(4, 5) - 7).astype(weight_type)
    rows = np.arange(8).reshape(2, 4).astype(input_type)
    data = one_product(operator, rows=2, weights=weights, input_type=input_type, output_type=output_type)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    (product,) = session.run(None, {"input": rows})
    assert product.dtype == output_type
    np.testing.assert_array_equal(product, rows.astype(np.int64) @ weights.astype(np.int64))


def test_an_operator_goes_through_an_array_element_by_element() -> None:
    data = one_by_one("Neg", length=300, dtype=np.float32)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    array = np.arange(300, dtype=np.float32)
    np.testing.assert_array_equal(session.run(None, {"input": array})[0], -array)
