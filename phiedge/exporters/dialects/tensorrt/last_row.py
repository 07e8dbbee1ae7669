"""The last row that counts, where the last layer drops all others."""

import onnx_ir as ir

from phiedge.exporters.dialects.rewrite import nodes_of, replace
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.graph_io import LAST_ROW


def take_last_row(draft: GraphDraft) -> None:
    """Slice of a chunk's end -> Gather of the row that the host names, for a chunk may be padded at its end."""
    (last_row,) = (value for value in draft.graph.inputs if value.name == LAST_ROW)
    for node in nodes_of(draft, "Slice"):
        rows, *bounds = node.inputs
        if [_number(bound) for bound in bounds[::2]] != [-1, 1]:  # from the last on, along the rows
            continue
        gather = ir.node("Gather", [rows, last_row], {"axis": 1})
        replace(draft, [node], [gather], node.outputs, gather.outputs)


def _number(value: ir.Value | None) -> int | None:
    """The only element of a constant."""
    if value is None or value.const_value is None or value.const_value.size != 1:
        return None
    return int(value.const_value.numpy().item())
