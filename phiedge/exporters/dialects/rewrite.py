"""The moves that passes are made of: find nodes, put others in their place or in front, add weights and constants."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.trace import SCOPE
from phiedge.exporters.weights import Array, Slot

MICROSOFT = "com.microsoft"


def nodes_of(draft: GraphDraft, op_type: str, *, domain: str = "") -> list[ir.Node]:
    """The nodes of one operator, in order; a list, so that a pass may replace them as it goes."""
    return [node for node in draft.graph if node.op_type == op_type and node.domain == domain]


def replace(
    draft: GraphDraft,
    old: Sequence[ir.Node],
    new: Sequence[ir.Node],
    old_values: Sequence[ir.Value],
    new_values: Sequence[ir.Value],
) -> None:
    """Put `new` where the last node of `old` stood; values keep their names, types and shapes, nodes their scope."""
    for node in new:
        node.metadata_props[SCOPE] = old[-1].metadata_props[SCOPE]
        if node.domain:
            draft.model.opset_imports.setdefault(node.domain, 1)
    ir.convenience.replace_nodes_and_values(draft.graph, old[-1], old, new, old_values, new_values)


def prepend(draft: GraphDraft, new: Sequence[ir.Node]) -> None:
    """Put `new` at the beginning of the graph, as nodes of no module; they may read inputs and weights only."""
    for node in new:
        node.metadata_props[SCOPE] = ""
    draft.graph.insert_before(draft.graph[0], new)


def add_weight(draft: GraphDraft, slot: Slot) -> ir.Value:
    """The value of a new weight, which a fill with this slot must fill."""
    value = ir.Value(name=slot.name, shape=ir.Shape(slot.shape), type=ir.TensorType(slot.dtype))
    draft.graph.initializers[slot.name] = value
    return value


def constant(draft: GraphDraft, name: str, array: Array | np.generic) -> ir.Value:
    """The value of a small constant called `constant.<name>`, which is added the first time it is asked for."""
    name = f"constant.{name}"
    if name not in draft.graph.initializers:
        tensor = ir.tensor(np.asarray(array), name=name)
        shape, kind = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
        value = ir.Value(name=name, shape=shape, type=kind, const_value=tensor)
        draft.graph.initializers[name] = value
    return draft.graph.initializers[name]
