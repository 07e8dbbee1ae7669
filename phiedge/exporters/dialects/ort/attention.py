"""Attention for ONNX Runtime: one fused kernel each, in the decoder with its cache in place."""

import onnx_ir as ir

from phiedge.exporters.attention_op import NAMESPACE
from phiedge.exporters.dialects.rewrite import MICROSOFT, nodes_of, replace
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.trace import CACHED_ATTENTION


def use_group_query_attention(draft: GraphDraft) -> None:
    """CachedAttention -> GroupQueryAttention, which rotates, appends to the cache and attends in one kernel.

    Operands differ only by the two empty places of a packed QKV. With one buffer bound as past and present, the kernel
    writes the new rows and copies nothing.
    """
    for node in nodes_of(draft, CACHED_ATTENTION, domain=NAMESPACE):
        qkv, past_key, past_value, seqlens_k, total, cos_cache, sin_cache = node.inputs
        operands = [qkv, None, None, past_key, past_value, seqlens_k, total, cos_cache, sin_cache]
        attributes = {
            "num_heads": node.attributes["num_heads"].as_int(),
            "kv_num_heads": node.attributes["kv_heads"].as_int(),
            "scale": node.attributes["scale"].as_float(),
            "do_rotary": 1,
            "rotary_interleaved": 0,
        }
        fused = ir.node("GroupQueryAttention", operands, attributes, domain=MICROSOFT, num_outputs=3)
        replace(draft, [node], [fused], node.outputs, fused.outputs)
    draft.model.opset_imports.pop(NAMESPACE, None)


def use_multi_head_attention(draft: GraphDraft) -> None:
    """Attention over packed heads, without mask or cache -> MultiHeadAttention, the faster kernel for long rows."""
    for node in nodes_of(draft, "Attention"):
        heads = node.attributes["q_num_heads"].as_int()
        plain = len(node.inputs) == 3 and len(node.outputs) == 1 and heads == node.attributes["kv_num_heads"].as_int()
        if not plain:
            continue
        attributes = {"num_heads": heads, "scale": node.attributes["scale"].as_float()}
        fused = ir.node("MultiHeadAttention", node.inputs, attributes, domain=MICROSOFT)
        replace(draft, [node], [fused], node.outputs, fused.outputs)
