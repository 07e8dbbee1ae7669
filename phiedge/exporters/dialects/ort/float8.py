"""Linear layers of the decoder with inputs and weights rounded to 8-bit floats, multiplied in float32.

    x -> QuantizeLinear -> DequantizeLinear -> MatMul
         Cast(codes) * Cast(scales) -> Transpose -/

A CPU has no product of 8-bit floats. ONNX Runtime computes the weights once, when it opens the graph, and keeps them in
float32: four times what the file has. That is for trying a bundle, and for the numbers that it is verified with.
(`DequantizeLinear` of the weights, as TensorRT has it, makes ONNX Runtime 1.31 fuse the product with an operator for
integers, and refuse the graph that it made.)
"""

from collections.abc import Mapping
from dataclasses import replace as replace_fields

import onnx_ir as ir

from phiedge.exporters.dialects.linear import Linear
from phiedge.exporters.dialects.ort.linears import computed
from phiedge.exporters.dialects.rewrite import add_weight
from phiedge.exporters.dialects.tensorrt.float8 import FLOAT8, layer_linears, rounded_input
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.trace import SCOPE
from phiedge.exporters.weights import Float8Fill, Slot


def use_float8(draft: GraphDraft, activation_scales: Mapping[str, float]) -> None:
    """MatMul(x, Transpose(W)) -> the product of both rounded, for every linear of the layers; the head stays as it is.

    Codes and scales are those of the `tensorrt` dialect, in the same bytes. Raises as `layer_linears`.
    """
    for linear in layer_linears(draft, activation_scales):
        rounded, read = rounded_input(draft, linear, activation_scales[linear.source])
        draft.graph.insert_before(linear.product, [rounded, read])
        linear.product.replace_input_with(0, read.outputs[0])
        linear.transpose.replace_input_with(0, _weight(draft, linear))
        draft.graph.initializers.pop(linear.slot.name)


def _weight(draft: GraphDraft, linear: Linear) -> ir.Value:
    slot, scope = linear.slot, linear.product.metadata_props[SCOPE]
    rows, k = slot.shape
    codes = Slot(name=f"{slot.name}.float8", dtype=FLOAT8, shape=(rows, k))
    scales = Slot(name=f"{slot.name}.scales", dtype=ir.DataType.FLOAT16, shape=(rows,))
    scales = replace_fields(scales, shape=(rows, 1), content=scales.key)
    draft.fills[slot.name] = Float8Fill(source=linear.source, shape=(rows, k), slots=(codes, scales))
    to_slot = {"to": slot.dtype.value}
    factors = [computed(draft, "Cast", [add_weight(draft, stored)], to_slot) for stored in (codes, scales)]
    weight = ir.node("Mul", factors)
    weight.outputs[0].shape, weight.outputs[0].type = ir.Shape((rows, k)), ir.TensorType(slot.dtype)
    weight.metadata_props[SCOPE] = scope
    draft.graph.insert_before(linear.transpose, weight)
    return weight.outputs[0]
