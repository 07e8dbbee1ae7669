import gzip
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from edge_exporter import RECORDED
from phiedge.bundle import Bundle, ModelFacts
from phiedge.engines.edge_llm.structure import check_structure
from phiedge.errors import ToolOutputError


@pytest.fixture(scope="session")
def facts(exported_bundle: Path) -> ModelFacts:
    return Bundle.open(exported_bundle).manifest.facts


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """The graph that the exporter wrote, after a change."""

    def make(change: Callable[[onnx.GraphProto], object] = lambda graph: None) -> Path:
        model = onnx.ModelProto.FromString(gzip.decompress((RECORDED / "graph.onnx.gz").read_bytes()))
        change(model.graph)
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return make


def node(graph: onnx.GraphProto, op_type: str) -> onnx.NodeProto:
    return next(node for node in graph.node if node.op_type == op_type)


def set_integer(node: onnx.NodeProto, name: str, value: int) -> None:
    next(attribute for attribute in node.attribute if attribute.name == name).i = value


def weight(graph: onnx.GraphProto, ending: str) -> onnx.TensorProto:
    return next(tensor for tensor in graph.initializer if tensor.name.endswith(ending))


def transpose(tensor: onnx.TensorProto) -> None:
    tensor.dims[:] = list(tensor.dims)[::-1]


def test_the_graph_that_the_exporter_wrote_passes(changed: Callable[..., Path], facts: ModelFacts) -> None:
    check_structure(changed(), facts, layers=facts.num_layers)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda graph: graph.input.pop(), "has inputs"),
        (lambda graph: set_integer(node(graph, "AttentionPlugin"), "num_kv_heads", 8), "'num_kv_heads': 8"),
        (lambda graph: set_integer(node(graph, "AttentionPlugin"), "sliding_window_size", 7), "window_size': 7"),
        (lambda graph: set_integer(node(graph, "Int4GroupwiseGemmPluginV2"), "gemm_n", 64), "'gemm_n': 64"),
        (lambda graph: transpose(weight(graph, "gate_proj.scales")), "gate_proj.scales .*512, 2"),
        (lambda graph: setattr(node(graph, "QkvConcatPlugin"), "op_type", "Concat"), "has operators"),
        (lambda graph: setattr(node(graph, "Int4GroupwiseGemmPluginV2"), "op_type", "Other"), "has operators"),
    ],
)
def test_a_graph_that_is_not_as_it_has_to_be_is_refused(
    change: Callable[[onnx.GraphProto], object], told: str, changed: Callable[..., Path], facts: ModelFacts
) -> None:
    with pytest.raises(ToolOutputError, match=told):
        check_structure(changed(change), facts, layers=facts.num_layers)


def test_a_layer_too_few_is_refused(changed: Callable[..., Path], facts: ModelFacts) -> None:
    with pytest.raises(ToolOutputError, match="has inputs"):
        check_structure(changed(), facts, layers=facts.num_layers + 1)


def test_what_is_no_graph_is_refused(tmp_path: Path, facts: ModelFacts) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ToolOutputError, match="cannot be read"):
        check_structure(tmp_path / "model.onnx", facts, layers=1)
