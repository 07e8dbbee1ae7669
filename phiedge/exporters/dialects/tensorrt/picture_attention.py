"""Attention among the patches of one picture, for a parser that has no such operator."""

import onnx_ir as ir

from phiedge.exporters.dialects.rewrite import nodes_of, replace
from phiedge.exporters.dialects.tensorrt.written_out import NodeList
from phiedge.exporters.draft import GraphDraft


def write_out_attention(draft: GraphDraft) -> None:
    """Attention over packed heads, without mask or cache -> two products and a softmax; another is left alone."""
    for node in nodes_of(draft, "Attention"):
        heads = node.attributes["q_num_heads"].as_int()
        plain = len(node.inputs) == 3 and len(node.outputs) == 1 and heads == node.attributes["kv_num_heads"].as_int()
        if plain:
            _rewrite(draft, node, heads)


def _rewrite(draft: GraphDraft, node: ir.Node, heads: int) -> None:
    query = node.inputs[0]
    assert query is not None
    assert query.shape is not None
    assert query.dtype is not None
    width = query.shape[-1]
    assert isinstance(width, int)
    new = NodeList(draft)
    apart = [new.reshaped(rows, f"{heads}_heads", [1, -1, heads, width // heads]) for rows in node.inputs if rows]
    queries, values = (new.ordered(rows, 0, 2, 1, 3) for rows in (apart[0], apart[2]))
    keys = new.ordered(apart[1], 0, 2, 3, 1)
    scale = new.constant("scale", query.dtype.numpy().type(node.attributes["scale"].as_float()))
    weights = new.softmax(new.add("MatMul", [new.add("Mul", [queries, scale]), keys]))
    attended = new.ordered(new.add("MatMul", [weights, values]), 0, 2, 1, 3)
    rows = new.reshaped(attended, "rows", [1, -1, width])
    replace(draft, [node], new.nodes, node.outputs, [rows])
