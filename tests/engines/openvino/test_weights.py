from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from phiedge.bundle import Bundle
from phiedge.engines.openvino.weights import read_weights
from phiedge.errors import BundleError


def save(path: Path) -> dict[str, np.ndarray]:
    """A model with weights of several types beside it, and a small one in it; returns those beside it."""
    random = np.random.default_rng(0)
    arrays = {
        f"weight.{np.dtype(dtype)}": random.integers(0, 100, (3, 200)).astype(dtype)
        for dtype in (np.float32, np.float16, np.uint8, np.int64)
    }
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    tensors.append(onnx.numpy_helper.from_array(np.array(7.5, np.float32), "scalar"))
    nodes = [helper.make_node("Identity", ["scalar"], ["y"])]
    model = helper.make_model(helper.make_graph(nodes, "g", [], [output], tensors))
    onnx.save(model, path, save_as_external_data=True, location="weights.data", size_threshold=100)
    return arrays


def test_the_weights_beside_a_graph_are_read(tmp_path: Path) -> None:
    arrays = save(tmp_path / "graph.onnx")
    found = read_weights(tmp_path / "graph.onnx")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


def test_the_decoder_of_a_bundle_is_read_as_onnx_reads_it(oracle_bundle: Bundle) -> None:
    path = oracle_bundle.file("decoder.ort.onnx")
    found = read_weights(path)
    beside = [tensor for tensor in onnx.load(path, load_external_data=False).graph.initializer if tensor.external_data]
    assert found.keys() == {tensor.name for tensor in beside}
    for tensor in beside:
        np.testing.assert_array_equal(found[tensor.name], onnx.numpy_helper.to_array(tensor, str(path.parent)))


def test_what_is_changed_in_memory_does_not_reach_the_file(tmp_path: Path) -> None:
    save(tmp_path / "graph.onnx")
    before = (tmp_path / "weights.data").read_bytes()
    read_weights(tmp_path / "graph.onnx")["weight.uint8"][:] = 255
    assert (tmp_path / "weights.data").read_bytes() == before


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(b"this is no graph")
    with pytest.raises(BundleError, match="graph.onnx is not a graph") as caught:
        read_weights(path)
    assert "phiedge verify" in str(caught.value.remedy)


def test_weights_that_are_missing_or_too_short_are_refused(tmp_path: Path) -> None:
    path, weights = tmp_path / "graph.onnx", tmp_path / "weights.data"
    save(path)
    for short in (weights.read_bytes()[:50], b""):
        weights.write_bytes(short)
        with pytest.raises(BundleError, match="has weights that are not there"):
            read_weights(path)
    weights.unlink()
    with pytest.raises(BundleError, match="has weights that are not there"):
        read_weights(path)
