import onnx_ir as ir

from phiedge.exporters.node_names import name_nodes
from phiedge.exporters.trace import SCOPE


def test_names_are_paths_without_repetition_and_metadata_is_gone() -> None:
    x, weight = ir.Value(name="x"), ir.Value(name="fc.weight")
    first = ir.node("Mul", [x, weight], metadata_props={SCOPE: "model.layers.10.mlp"}, name="torch_name")
    second = ir.node("Mul", [first.outputs[0], x], metadata_props={SCOPE: "model.layers.10.mlp"})
    last = ir.node("Cast", second.outputs, {"to": 1}, metadata_props={SCOPE: ""})
    last.outputs[0].name = "logits"
    graph = ir.Graph([x], last.outputs, nodes=[first, second, last], initializers=[weight])
    name_nodes(graph)
    assert [node.name for node in graph] == ["/model/layers.10/mlp/Mul", "/model/layers.10/mlp/Mul_1", "/Cast"]
    assert all(not node.metadata_props for node in graph)
    assert first.outputs[0].name == "/model/layers.10/mlp/Mul/0"
    assert [value.name for value in (x, weight, last.outputs[0])] == ["x", "fc.weight", "logits"]
