"""What the small reader of graphs says, beside what onnx itself says about the same files."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from phiedge.bundle import Bundle
from phiedge.bundle.graph_file import LARGEST_BYTES, GraphFile, read_graph
from phiedge.errors import BundleError

INT4 = helper.make_tensor("codes", TensorProto.INT4, [3, 3], b"\x00" * 5, raw=True)


def graphs_of(path: Path) -> Iterator[Path]:
    bundle = Bundle.open(path)
    for dialect in bundle.manifest.dialects.values():
        yield bundle.file(dialect.vision)
        yield bundle.file(dialect.decoder)


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def model() -> onnx.ModelProto:
    """Two nodes, a weight of each place."""
    outside = TensorProto(name="matrix", data_type=TensorProto.FLOAT16, dims=[4, 2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "decoder.data"), ("offset", "64"), ("length", "16")):
        outside.external_data.add(key=key, value=value)
    nodes = [
        helper.make_node("MatMulNBits", ["x", "codes"], ["y"], "/a/MatMulNBits", domain="com.microsoft", bits=4, K=-1),
        helper.make_node("Add", ["y", ""], ["z"], alpha=0.5),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "t", None]) for name in ("x", "z")]
    graph = helper.make_graph(nodes, "decoder", ports[:1], ports[1:], [INT4, outside])
    opsets = [helper.make_opsetid("", 24), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=11)


def dtype_of(data_type: int) -> str:
    return {"FLOAT": "float32"}.get(name := TensorProto.DataType.Name(data_type), name.lower())


def side_of(dim: onnx.TensorShapeProto.Dimension) -> int | str:
    return dim.dim_value if dim.HasField("dim_value") else dim.dim_param


def assert_as_onnx_has_it(found: GraphFile, expected: onnx.ModelProto) -> None:
    assert found.ir_version == expected.ir_version
    assert found.opsets == {entry.domain: entry.version for entry in expected.opset_import}
    assert [(n.name, n.op_type, n.domain, list(n.inputs), list(n.outputs)) for n in found.nodes] == [
        (n.name, n.op_type, n.domain, list(n.input), list(n.output)) for n in expected.graph.node
    ]
    assert [dict(n.integers) for n in found.nodes] == [
        {a.name: a.i for a in n.attribute if a.type == onnx.AttributeProto.INT} for n in expected.graph.node
    ]
    for ours, theirs in ((found.inputs, expected.graph.input), (found.outputs, expected.graph.output)):
        assert [(v.name, v.dtype, list(v.shape)) for v in ours] == [
            (v.name, dtype_of(v.type.tensor_type.elem_type), [side_of(d) for d in v.type.tensor_type.shape.dim])
            for v in theirs
        ]
    for weight, tensor in zip(found.weights, expected.graph.initializer, strict=True):
        place = {entry.key: entry.value for entry in tensor.external_data}
        assert (weight.name, weight.dtype, list(weight.shape)) == (
            tensor.name,
            dtype_of(tensor.data_type),
            list(tensor.dims),
        )
        assert (weight.file, weight.offset) == (place.get("location"), int(place.get("offset", "0")))
        if place:
            assert weight.size_bytes == int(place["length"])


@pytest.mark.parametrize("made", ["exported_bundle", "tiny_bundle", "oracle_bundle"])
def test_every_graph_of_a_bundle_is_read_as_onnx_reads_it(made: str, request: pytest.FixtureRequest) -> None:
    bundle = request.getfixturevalue(made)
    graphs = list(graphs_of(bundle.path if isinstance(bundle, Bundle) else bundle))
    assert len(graphs) >= 2
    for path in graphs:
        assert_as_onnx_has_it(read_graph(path), onnx.load(path, load_external_data=False))


def test_what_no_dialect_has_is_read_too(model: onnx.ModelProto, tmp_path: Path) -> None:
    found = read_graph(save(model, tmp_path / "graph.onnx"))
    assert found.nodes[0].integers == {"bits": 4, "K": -1}
    assert found.nodes[1].inputs == ("y", "")
    assert found.nodes[1].integers == {}
    assert found.inputs[0].shape == (1, "t", "?")
    codes, matrix = found.weights
    assert (codes.dtype, codes.file, codes.size_bytes) == ("int4", None, 5)
    assert (matrix.file, matrix.offset, matrix.size_bytes) == ("decoder.data", 64, 16)


def a_function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f")


def a_subgraph(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.add(name="body", type=onnx.AttributeProto.GRAPH, g=model.graph)


def a_sparse_weight(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add(dims=[1])


def no_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = ""


def no_node(model: onnx.ModelProto) -> None:
    del model.graph.node[:]


def no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def no_opset_of_a_domain(model: onnx.ModelProto) -> None:
    del model.opset_import[1]


def an_unknown_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].data_type = 99


def another_length(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].external_data[2].value = "17"


def a_wrong_offset(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].external_data[1].value = "-64"


def a_file_outside(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].external_data[0].value = "../../secret"


def an_input_without_shape(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def an_escape_in_a_name(model: onnx.ModelProto) -> None:
    model.graph.node[0].name = "\x1b]0;title\x07"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (a_function, "it has functions, which phiedge does not write"),
        (a_subgraph, "it has graphs inside its graph"),
        (a_sparse_weight, "it has sparse weights"),
        (no_operator, "the node '' has no operator"),
        (no_node, "it has 0 nodes and 1 outputs"),
        (no_opset, "no version of the operators"),
        (no_opset_of_a_domain, "no version of the operators of 'com.microsoft'"),
        (an_unknown_type, "'matrix' is of the unknown type 99"),
        (another_length, "the weight 'matrix' lies in 17 bytes, its shape takes 16"),
        (a_wrong_offset, "the weight 'matrix' lies at '-64'"),
        (a_file_outside, "not a plain path inside the bundle"),
        (an_input_without_shape, "'x' is not a tensor with a shape"),
        (an_escape_in_a_name, "characters that do not print"),
    ],
)
def test_what_phiedge_does_not_write_is_refused_by_name(
    model: onnx.ModelProto, tmp_path: Path, change: Callable[[onnx.ModelProto], None], told: str
) -> None:
    change(model)
    with pytest.raises(BundleError, match=told) as caught:
        read_graph(save(model, tmp_path / "graph.onnx"))
    assert str(tmp_path / "graph.onnx") in caught.value.message
    assert caught.value.remedy is not None


def test_no_part_of_a_graph_is_taken_for_the_whole(model: onnx.ModelProto, tmp_path: Path) -> None:
    whole, path = model.SerializeToString(), tmp_path / "graph.onnx"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BundleError, match="is not a graph"):
            read_graph(path)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_graph_is_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    outside = helper.make_tensor("w", TensorProto.FLOAT, [2], b"\x00" * 8, raw=True)
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    nodes = [helper.make_node("Add", ["x", "w"], ["x2"], "add", axis=1)]
    damaged = bytearray(helper.make_model(helper.make_graph(nodes, "g", [port], [port], [outside])).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(damaged)
    with suppress(BundleError):
        assert read_graph(path).nodes


def test_a_file_that_must_hold_weights_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    with path.open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    with pytest.raises(BundleError, match=f"has {LARGEST_BYTES + 1} bytes"):
        read_graph(path)
