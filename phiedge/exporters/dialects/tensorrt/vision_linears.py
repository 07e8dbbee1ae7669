"""Linears of the vision graph in 8 bits for TensorRT: int8, or 8-bit floats where the GPU multiplies them.

    x -> QuantizeLinear -> DequantizeLinear -> Gemm
         codes, scales  -> DequantizeLinear -/

As in the decoder (`float8.py`), the nodes between which numbers have 8 bits mark what TensorRT is to compute in 8 bits.
What is read by several products is rounded once. Int8 is symmetric: TensorRT takes no other zero than 0.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from phiedge.exporters.dialects.rewrite import add_weight, constant
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.precision import PrecisionPlan, VisionLinears
from phiedge.exporters.trace import SCOPE
from phiedge.exporters.vision_linears import CODES, VisionLinear, vision_fill, vision_linears
from phiedge.exporters.vision_scales import check_vision_scales


def use_eight_bits(draft: GraphDraft, plan: PrecisionPlan, scales: Mapping[str, float]) -> None:
    """Rewrite every linear that may be in 8 bits; `scales` are of their inputs, by the tensors of their weights.

    Raises `ExportError` where a scale is missing, left over or no number that float16 has.
    """
    form = plan.vision_linears
    assert form is not None
    check_vision_scales([linear.source for linear in vision_linears(draft)], scales)
    rounded: dict[ir.Value, ir.Value] = {}
    for linear in vision_linears(draft):
        if linear.x not in rounded:
            rounded[linear.x] = _rounded_input(draft, linear, form, scales[linear.source])
        linear.product.replace_input_with(0, rounded[linear.x])
        linear.product.replace_input_with(1, _weight(draft, linear, form))
        draft.graph.initializers.pop(linear.slot.name)


def _rounded_input(draft: GraphDraft, linear: VisionLinear, form: VisionLinears, scale: float) -> ir.Value:
    x, dtype = linear.x, linear.slot.dtype
    of_x = constant(draft, f"{linear.slot.name}.input_scale", dtype.numpy().type(scale))
    zero = [constant(draft, "zero_of_int8", np.int8(0))] if form == "int8" else []
    told = {} if form == "int8" else {"output_dtype": CODES[form].value}
    coded = _before(draft, linear, ir.node("QuantizeLinear", [x, of_x, *zero], told), x, CODES[form])
    return _before(draft, linear, ir.node("DequantizeLinear", [coded, of_x, *zero]), x, dtype)


def _weight(draft: GraphDraft, linear: VisionLinear, form: VisionLinears) -> ir.Value:
    fill = vision_fill(linear, form)
    draft.fills[linear.slot.name] = fill
    codes, scales = (add_weight(draft, slot) for slot in fill.slots)
    node = ir.node("DequantizeLinear", [codes, scales], {"axis": 0})
    return _before(draft, linear, node, codes, linear.slot.dtype)


def _before(draft: GraphDraft, linear: VisionLinear, node: ir.Node, like: ir.Value, dtype: ir.DataType) -> ir.Value:
    """The output of `node` in front of the product, of the shape of `like`."""
    node.metadata_props[SCOPE] = linear.product.metadata_props[SCOPE]
    node.outputs[0].shape, node.outputs[0].type = like.shape, ir.TensorType(dtype)
    draft.graph.insert_before(linear.product, node)
    return node.outputs[0]
