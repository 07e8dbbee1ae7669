from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from phiedge.bundle import Bundle
from phiedge.engines.openvino.weights import read_weights
from phiedge.errors import BundleError


def save(path: Path, *, external: bool) -> dict[str, np.ndarray]:
    """A model with a weight of every type that a graph may have; returns them."""
    random = np.random.default_rng(0)
    arrays = {
        f"weight.{np.dtype(dtype)}": random.integers(0, 100, (3, 200)).astype(dtype)
        for dtype in (np.float32, np.float16, np.uint8, np.int8, np.int32, np.int64)
    }
    arrays["scalar"] = np.array(7.5, np.float32)
    output = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    model = helper.make_model(helper.make_graph([], "g", [output], [output], tensors))
    onnx.save(model, path, save_as_external_data=external, location="weights.data", size_threshold=100)
    return arrays


@pytest.mark.parametrize("external", [False, True])
def test_all_weights_are_read_wherever_they_lie(tmp_path: Path, external: bool) -> None:
    arrays = save(tmp_path / "graph.onnx", external=external)
    found = read_weights(tmp_path / "graph.onnx")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


def test_the_decoder_of_a_bundle_is_read_as_onnx_reads_it(oracle_bundle: Bundle) -> None:
    path = oracle_bundle.file("decoder.ort.onnx")
    found = read_weights(path)
    wanted = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_what_is_changed_in_memory_does_not_reach_the_file(tmp_path: Path) -> None:
    save(tmp_path / "graph.onnx", external=True)
    before = (tmp_path / "weights.data").read_bytes()
    read_weights(tmp_path / "graph.onnx")["weight.uint8"][:] = 255
    assert (tmp_path / "weights.data").read_bytes() == before


@pytest.mark.parametrize("keep", [0, 1, 100, 400])
def test_a_file_that_ends_too_early_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "graph.onnx"
    save(path, external=True)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BundleError, match="graph.onnx is not a graph with weights") as caught:
        read_weights(path)
    assert "phiedge verify" in str(caught.value.remedy)


def test_weights_that_are_missing_or_too_short_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    save(path, external=True)
    weights = tmp_path / "weights.data"
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.raises(BundleError, match="is not a graph with weights"):
        read_weights(path)
    weights.unlink()
    with pytest.raises(BundleError, match="is not a graph with weights"):
        read_weights(path)


def test_anything_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(b"this is no graph")
    with pytest.raises(BundleError, match="is not a graph with weights"):
        read_weights(path)
