import numpy as np
import onnx
import pytest

from phiedge.engines.onnxruntime import model_bytes


def test_every_kind_of_attribute_is_read_back() -> None:
    told = {"whole": -1, "share": 0.5, "word": "tanh", "order": (1, 0), "none": 0}
    read = onnx.NodeProto.FromString(field(model_bytes.node("Op", ["a", ""], ["b"], domain="d", attributes=told)))
    assert (read.op_type, read.domain, list(read.input), list(read.output)) == ("Op", "d", ["a", ""], ["b"])
    found = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in read.attribute}
    assert found == {"whole": -1, "share": 0.5, "word": b"tanh", "order": [1, 0], "none": 0}


def test_a_weight_outside_has_its_shape_and_no_data() -> None:
    read = onnx.TensorProto.FromString(field(model_bytes.outside_tensor("w", (300, 5), np.uint8)))
    assert (read.name, list(read.dims), read.data_type) == ("w", [300, 5], onnx.TensorProto.UINT8)
    assert read.data_location == onnx.TensorProto.EXTERNAL
    assert not read.raw_data


def test_a_length_that_varies_has_a_name() -> None:
    read = onnx.ValueInfoProto.FromString(field(model_bytes.entering("x", (1, "rows", 7), np.float32)))
    sides = read.type.tensor_type.shape.dim
    assert [side.dim_param or side.dim_value for side in sides] == [1, "rows", 7]


def test_a_type_that_is_not_known_is_refused() -> None:
    with pytest.raises(KeyError):
        model_bytes.tensor("w", np.zeros(3, np.float64))


def field(held: bytes) -> bytes:
    """The message in a field of a graph, whose key takes one byte."""
    length, shift, at = 0, 0, 1
    while True:
        length |= (held[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not held[at - 1] & 0x80:
            assert len(held) == at + length
            return held[at:]
