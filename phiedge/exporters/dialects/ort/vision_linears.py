"""Linears of the vision graph in 8 bits, for ONNX Runtime.

Beside float32, int8 is multiplied as it is, by the kernels that CPUs have for integers:

    x -> QuantizeLinear -> MatMulIntegerToFloat
              Transpose(codes), scales, bias -/

Inputs are unsigned with 128 in the place of zero: the same numbers as int8 has, in the type that the kernels of x86
want beside weights with a sign. Everything else is rounded and then multiplied as floats are, which gives the numbers
of an engine that multiplies in 8 bits, and none of its speed:

    x -> QuantizeLinear -> DequantizeLinear -> Gemm
                   Cast(codes) * Cast(scales) -/

ONNX Runtime computes what is made from weights alone once, when it opens the graph.
"""

from collections.abc import Mapping
from dataclasses import replace as replace_fields

import numpy as np
import onnx_ir as ir

from phiedge.exporters.dialects.ort.linears import computed
from phiedge.exporters.dialects.rewrite import MICROSOFT, add_weight, constant, replace
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.precision import PrecisionPlan, VisionLinears
from phiedge.exporters.trace import SCOPE
from phiedge.exporters.vision_linears import CODES, VisionLinear, vision_fill, vision_linears
from phiedge.exporters.vision_scales import check_vision_scales
from phiedge.exporters.weights import Slot

_ZERO = np.uint8(128)


def use_eight_bits(draft: GraphDraft, plan: PrecisionPlan, scales: Mapping[str, float]) -> None:
    """Rewrite every linear that may be in 8 bits; `scales` are of their inputs, by the tensors of their weights.

    Raises `ExportError` where a scale is missing, left over or no number that float16 has.
    """
    form = plan.vision_linears
    assert form is not None
    check_vision_scales([linear.source for linear in vision_linears(draft)], scales)
    as_integers = form == "int8" and plan.activations == "float32"
    rounded: dict[ir.Value, ir.Value] = {}
    for linear in vision_linears(draft):
        if as_integers:
            _multiply_integers(draft, linear, scales[linear.source], rounded)
        else:
            _multiply_rounded(draft, linear, form, scales[linear.source], rounded)
        draft.graph.initializers.pop(linear.slot.name)


def _multiply_integers(
    draft: GraphDraft, linear: VisionLinear, scale: float, rounded: dict[ir.Value, ir.Value]
) -> None:
    zero = constant(draft, "zero_of_inputs", _ZERO)
    of_x = constant(draft, f"{linear.slot.name}.input_scale", np.float32(scale))
    if linear.x not in rounded:
        rounding = ir.node("QuantizeLinear", [linear.x, of_x, zero])
        rounded[linear.x] = _before(draft, linear, rounding, ir.DataType.UINT8)
    codes, scales = _weight(draft, linear, "int8", (linear.slot.shape[0],))
    turned = computed(draft, "Transpose", [codes], {})
    turned.shape = ir.Shape(tuple(reversed(linear.slot.shape)))
    as_float = computed(draft, "Cast", [scales], {"to": ir.DataType.FLOAT.value})
    operands = [rounded[linear.x], turned, of_x, as_float, zero, None, linear.product.inputs[2]]
    product = ir.node("MatMulIntegerToFloat", operands, domain=MICROSOFT)
    replace(draft, [linear.product], [product], linear.product.outputs, product.outputs)


def _multiply_rounded(
    draft: GraphDraft, linear: VisionLinear, form: VisionLinears, scale: float, rounded: dict[ir.Value, ir.Value]
) -> None:
    dtype = linear.slot.dtype
    if linear.x not in rounded:
        of_x = constant(draft, f"{linear.slot.name}.input_scale", dtype.numpy().type(scale))
        # Without an operand for zero. With one, ONNX Runtime moves the rounding up through Squeeze, and has no Squeeze
        # of 8-bit floats.
        rounding = ir.node("QuantizeLinear", [linear.x, of_x], {"output_dtype": CODES[form].value})
        coded = _before(draft, linear, rounding, CODES[form])
        rounded[linear.x] = _before(draft, linear, ir.node("DequantizeLinear", [coded, of_x]), dtype)
    stored = _weight(draft, linear, form, (linear.slot.shape[0], 1))
    factors = [computed(draft, "Cast", [one], {"to": dtype.value}) for one in stored]
    weight = _before(draft, linear, ir.node("Mul", factors), dtype)
    weight.shape = ir.Shape(linear.slot.shape)
    linear.product.replace_input_with(0, rounded[linear.x])
    linear.product.replace_input_with(1, weight)


def _weight(
    draft: GraphDraft, linear: VisionLinear, form: VisionLinears, scales_shape: tuple[int, ...]
) -> tuple[ir.Value, ir.Value]:
    """Codes [N, K] and scales of the shape that is wanted, in the bytes that all dialects share."""
    fill = vision_fill(linear, form)
    codes, scales = fill.slots
    shaped: Slot = replace_fields(scales, shape=scales_shape, content=scales.key)
    draft.fills[linear.slot.name] = replace_fields(fill, slots=(codes, shaped))
    return add_weight(draft, codes), add_weight(draft, shaped)


def _before(draft: GraphDraft, linear: VisionLinear, node: ir.Node, dtype: ir.DataType) -> ir.Value:
    """The output of `node` in front of the product, of the shape of the node's first operand."""
    first = node.inputs[0]
    assert first is not None
    node.metadata_props[SCOPE] = linear.product.metadata_props[SCOPE]
    node.outputs[0].shape, node.outputs[0].type = first.shape, ir.TensorType(dtype)
    draft.graph.insert_before(linear.product, node)
    return node.outputs[0]
