"""Attention over a cache of fixed capacity for TensorRT: the cache is scattered into, and all of it attended to.

    qkv -> Split -> heads -> RotaryEmbedding -> TensorScatter <-> cache
                                            \\-> Attention <- mask

`nonpad_kv_seqlen` would say the same as the mask, but TensorRT's parser ignores it silently; `is_causal` would be wrong
for a cache that is partly filled.
"""

import numpy as np
import onnx_ir as ir

from phiedge.exporters.attention_op import NAMESPACE
from phiedge.exporters.dialects.rewrite import constant, nodes_of, replace
from phiedge.exporters.dialects.tensorrt.chunk import Chunk
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.trace import CACHED_ATTENTION


def use_scattered_cache(draft: GraphDraft, chunk: Chunk) -> None:
    """CachedAttention -> RotaryEmbedding, TensorScatter into the cache, and Attention to all of it under the mask."""
    for node in nodes_of(draft, CACHED_ATTENTION, domain=NAMESPACE):
        _rewrite(draft, node, chunk)
    draft.model.opset_imports.pop(NAMESPACE, None)


def _rewrite(draft: GraphDraft, node: ir.Node, chunk: Chunk) -> None:
    qkv, past_key, past_value, *_ = node.inputs
    assert past_key is not None
    assert past_key.shape is not None
    assert past_key.dtype is not None
    heads, kv_heads = node.attributes["num_heads"].as_int(), node.attributes["kv_heads"].as_int()
    *_, size = (int(side) for side in past_key.shape.numpy())
    widths = np.array([heads, kv_heads, kv_heads]) * size
    split = ir.node("Split", [qkv, constant(draft, "qkv_widths", widths)], {"axis": 2}, num_outputs=3)
    (split_q, query), (split_k, key), (split_v, value) = (
        _heads(draft, rows, count, size) for rows, count in zip(split.outputs, (heads, kv_heads, kv_heads), strict=True)
    )
    turned_query, turned_key = (_rotated(rows, chunk) for rows in (query, key))
    scatter_key = _scattered(past_key, turned_key.outputs[0], chunk)
    scatter_value = _scattered(past_value, value, chunk)
    operands = [turned_query.outputs[0], scatter_key.outputs[0], scatter_value.outputs[0], chunk.mask]
    # The softmax's type cannot be told: the parser refuses `softmax_precision`.
    attention = ir.node("Attention", operands, {"scale": node.attributes["scale"].as_float()})
    order, rows = _rows(draft, attention.outputs[0], heads * size)
    new = [split, *split_q, *split_k, *split_v, turned_query, turned_key, scatter_key, scatter_value]
    new += [attention, order, rows]
    for output in (value for made in new for value in made.outputs):
        output.dtype = past_key.dtype
    outputs = [rows.outputs[0], scatter_key.outputs[0], scatter_value.outputs[0]]
    replace(draft, [node], new, node.outputs, outputs)


def _heads(draft: GraphDraft, rows: ir.Value, count: int, size: int) -> tuple[list[ir.Node], ir.Value]:
    """[1, t, count * size] -> [1, count, t, size]."""
    shape = constant(draft, f"shape_{count}_heads", np.array([1, -1, count, size]))
    apart = ir.node("Reshape", [rows, shape])
    ordered = ir.node("Transpose", apart.outputs, {"perm": [0, 2, 1, 3]})
    return [apart, ordered], ordered.outputs[0]


def _rows(draft: GraphDraft, heads: ir.Value, width: int) -> tuple[ir.Node, ir.Node]:
    """[1, heads, t, D] -> [1, t, width]."""
    order = ir.node("Transpose", [heads], {"perm": [0, 2, 1, 3]})
    return order, ir.node("Reshape", [order.outputs[0], constant(draft, "shape_rows", np.array([1, -1, width]))])


def _rotated(heads: ir.Value, chunk: Chunk) -> ir.Node:
    return ir.node("RotaryEmbedding", [heads, chunk.cos, chunk.sin], {"interleaved": 0})


def _scattered(cache: ir.Value | None, rows: ir.Value, chunk: Chunk) -> ir.Node:
    return ir.node("TensorScatter", [cache, rows, chunk.first], {"axis": 2, "mode": "linear"})
