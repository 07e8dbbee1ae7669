"""From the vision graph that a bundle has for TensorRT to the packed-patch graph of TensorRT Edge-LLM.

Layers, norms and projector stay as they are; what changes is the order of a patch's values (channel first), where
positions come from, and that attention ends at the bounds of each picture. The last block and the final norm are not in
the bundle's graph already.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from phiedge.bundle import ModelFacts
from phiedge.errors import BundleError
from phiedge.exporters.packed_vision import contract
from phiedge.exporters.packed_vision.positions import PositionGraph

CHANNELS = 3
DATA_FILE = "model.onnx.data"
PATCH_WEIGHT = "tower.embeddings.patch_embedding.weight"


def write_packed_vision(graph: Path, table: NDArray[np.float32], facts: ModelFacts, out: Path) -> None:
    """Write `out` (`model.onnx`) and `DATA_FILE` beside it from the bundle's `graph` and its position `table`.

    Raises `BundleError` where the graph is not such as phiedge writes for TensorRT.
    """
    model = ir.load(graph)
    _check(model, graph)
    _map_weights(model.graph, graph.parent)
    _pack(model.graph, table, facts)
    model.opset_imports.clear()
    model.opset_imports.update({"": contract.OPSET, contract.DOMAIN: contract.DOMAIN_VERSION})
    model.graph.name = "visual"
    model.graph.sort()
    ir.save(model, out, external_data=DATA_FILE)


def channel_first(weight: NDArray[np.generic], patch_size: int) -> NDArray[np.generic]:
    """The columns of the patch embedding, from (y, x, channel) to (channel, y, x)."""
    rows = weight.shape[0]
    by_place = weight.reshape(rows, patch_size, patch_size, CHANNELS)
    return np.ascontiguousarray(by_place.transpose(0, 3, 1, 2).reshape(rows, -1))


def _check(model: ir.Model, path: Path) -> None:
    graph = model.graph
    names = [value.name for value in (*graph.inputs, *graph.outputs)]
    kinds = {value.dtype for value in graph.inputs}
    attention = [node for node in graph if node.op_type == "Attention"]
    if names != ["patches", "pos_embed", "features"] or kinds != {ir.DataType.FLOAT16} or not attention:
        told = f"{len(attention)} Attention operators, {', '.join(map(str, names))}"
        raise BundleError(
            f"{path} is no vision graph in float16 for TensorRT: it has {told}",
            remedy="export the bundle again, for a target with a GPU",
        )


def _map_weights(graph: ir.Graph, directory: Path) -> None:
    """Map the weights that lie beside the graph; the library's own reader refuses a bundle that was copied by links."""
    for value in graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            kind, shape = tensor.dtype.numpy(), tensor.shape.numpy()
            mapped = np.memmap(directory / tensor.location, kind, "r", tensor.offset or 0, shape)
            value.const_value = ir.tensor(mapped, name=value.name)


def _pack(graph: ir.Graph, table: NDArray[np.float32], facts: ModelFacts) -> None:
    patches, positions = graph.inputs
    bounds = _input(contract.BOUNDS, ir.DataType.INT32, (contract.PICTURES_AND_ONE,))
    indices = _input(contract.TAP_INDICES, ir.DataType.INT64, (contract.TAPS, contract.TOTAL))
    weights = _input(contract.TAP_WEIGHTS, ir.DataType.FLOAT16, (contract.TAPS, contract.TOTAL))
    longest = _input(contract.LONGEST, ir.DataType.INT32, (contract.MOST_PATCHES,))
    patches.name, patches.shape = contract.PATCHES, ir.Shape((contract.TOTAL, CHANNELS * facts.patch_size**2))
    graph.inputs[:] = [patches, bounds, indices, weights, longest]
    (features,) = graph.outputs
    features.name, features.shape = contract.FEATURES, ir.Shape((contract.TOTAL, facts.hidden_size))

    embedding = PositionGraph(table, side=facts.position_grid)
    embedded = embedding.embed(indices, weights, bounds)
    positions.replace_all_uses_with(embedded)
    for value in embedding.initializers:
        graph.register_initializer(value)
    for number, node in enumerate(embedding.nodes):
        node.name = f"/positions/{node.op_type}_{number}"
    graph.insert_before(graph[0], embedding.nodes)
    _replace_weight(graph, PATCH_WEIGHT, lambda weight: channel_first(weight, facts.patch_size))
    for node in [node for node in graph if node.op_type == "Attention"]:
        _bound_attention(graph, node, bounds, longest, facts)
    for value in list(graph.initializers.values()):
        if not value.uses():
            del graph.initializers[value.name or ""]


def _bound_attention(graph: ir.Graph, old: ir.Node, bounds: ir.Value, longest: ir.Value, facts: ModelFacts) -> None:
    """Put the plugin in the place of `Unsqueeze` (query, key, value), `Attention` and `Squeeze`."""
    heads, head_dim = facts.vision_heads, facts.vision_hidden_size // facts.vision_heads
    added = [_producer(value) for value in old.inputs]
    (squeeze,) = (user for user, _ in old.outputs[0].uses())
    by_head = _constant(graph, "by_head", np.array([-1, heads, head_dim]))
    rows = _constant(graph, "rows", np.array([-1, facts.vision_hidden_size]))
    split = [ir.node("Reshape", [node.inputs[0], by_head], name=f"{node.name}_by_head") for node in added]
    plugin = ir.node(
        contract.ATTENTION,
        [*(node.outputs[0] for node in split), bounds, longest],
        {
            "num_heads": heads,
            "head_size": head_dim,
            "attention_scale": old.attributes["scale"].as_float(),
            "qkv_scales": [1.0, 1.0, 1.0],
        },
        domain=contract.DOMAIN,
        name=f"{old.name}_{contract.ATTENTION}",
    )
    joined = ir.node("Reshape", [plugin.outputs[0], rows], name=f"{squeeze.name}_rows")
    new = [*split, plugin, joined]
    for node in new:
        node.outputs[0].name = f"{node.name}/0"
    ir.convenience.replace_nodes_and_values(
        graph, squeeze, [*added, old, squeeze], new, squeeze.outputs, joined.outputs
    )


def _producer(value: ir.Value | None) -> ir.Node:
    node = None if value is None else value.producer()
    assert node is not None, "attention reads what the graph computes"
    return node


def _input(name: str, dtype: ir.DataType, shape: tuple[int | str, ...]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))


def _constant(graph: ir.Graph, name: str, array: NDArray[np.int64]) -> ir.Value:
    name = f"constant.{name}"
    if name not in graph.initializers:
        tensor = ir.tensor(array.astype(np.int64), name=name)
        value = ir.Value(
            name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.INT64), const_value=tensor
        )
        graph.register_initializer(value)
    return graph.initializers[name]


def _replace_weight(graph: ir.Graph, name: str, change: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> None:
    value = graph.initializers[name]
    assert value.const_value is not None, "a bundle's graph has its weights"
    value.const_value = ir.tensor(change(value.const_value.numpy()), name=name)
