"""A cache of keys and values in int8: GroupQueryAttention rounds what it appends and multiplies by it as it is.

Each channel of each layer's keys and values has a scale, a weight of the graph. Why for each channel, and what it costs
and gives: docs/decisions/0412-when-is-the-cache-8-bits.md.
"""

from functools import partial

import onnx_ir as ir

from phiedge.exporters.cache_scales import CacheScales, scale_names
from phiedge.exporters.dialects.rewrite import MICROSOFT, add_weight, nodes_of
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.values import Float32
from phiedge.exporters.weights import ComputedFill, Slot

_BITS = 8
_INPUTS = 14  # up to v_scale; those between the rotary tables and k_scale are left out
_PAST, _PRESENT, _SCALES = (3, 4), (1, 2), (12, 13)


def use_int8_cache(draft: GraphDraft, scales: CacheScales) -> None:
    """Give every GroupQueryAttention its scales, and the caches of the graph their type; layers are in order."""
    nodes = nodes_of(draft, "GroupQueryAttention", domain=MICROSOFT)
    assert len(nodes) == len(scales.layers), (len(nodes), len(scales.layers))
    for layer, (node, sides) in enumerate(zip(nodes, scales.layers, strict=True)):
        node.resize_inputs(_INPUTS)
        for name, values, place in zip(scale_names(layer), sides, _SCALES, strict=True):
            slot = Slot(name=name, dtype=ir.DataType.FLOAT, shape=values.shape)
            draft.fills[name] = ComputedFill(slot=slot, values=partial(_as_it_is, values))
            node.replace_input_with(place, add_weight(draft, slot))
        for attribute in ("k_quant_type", "v_quant_type"):
            node.attributes.add(ir.AttrString(attribute, "PER_CHANNEL"))
        node.attributes.add(ir.AttrInt64("kv_cache_bit_width", _BITS))
        caches = [node.inputs[place] for place in _PAST] + [node.outputs[place] for place in _PRESENT]
        for cache in caches:
            assert cache is not None
            cache.type = ir.TensorType(ir.DataType.INT8)


def _as_it_is(values: Float32) -> Float32:
    return values
