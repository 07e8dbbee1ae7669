"""The two moves that every pass is made of: find nodes, and put others in their place."""

from collections.abc import Sequence

import onnx_ir as ir

from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.trace import SCOPE

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
