"""Linear layers of the decoder in 8-bit floats for TensorRT, on GPUs that multiply them (SM 89 and later).

    x -> QuantizeLinear -> DequantizeLinear -> MatMul
         codes, scales  -> DequantizeLinear -> Transpose -/

The nodes between which numbers have 8 bits mark what TensorRT is to compute in 8 bits. Inputs have one scale each, a
constant that calibration found, so that no kernel has to look for the largest before it rounds. Weights have one for
each row.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from phiedge.errors import ExportError
from phiedge.exporters.dialects.linear import LM_HEAD, Linear, linears
from phiedge.exporters.dialects.rewrite import add_weight, constant
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.float8 import LARGEST, LARGEST_SCALED, float8_scales
from phiedge.exporters.input_scales import check_scales_are_of
from phiedge.exporters.trace import SCOPE
from phiedge.exporters.weights import Float8Fill, Slot

FLOAT8 = ir.DataType.FLOAT8E4M3FN


def layer_linears(draft: GraphDraft, activation_scales: Mapping[str, float]) -> list[Linear]:
    """The linears of all layers, each of which must have the scale of its input, and nothing else may.

    Raises `ExportError` naming the first for which that does not hold.
    """
    found = [linear for linear in linears(draft) if linear.slot.name != LM_HEAD]
    check_scales_are_of(
        [linear.source for linear in found],
        activation_scales,
        who="float8 wants",
        where="a decoder layer",
        else_="--precision int4",
    )
    return found


def use_float8(draft: GraphDraft, activation_scales: Mapping[str, float]) -> None:
    """MatMul(x, Transpose(W)) -> a product of 8-bit floats for every linear of the layers; the head stays as it is.

    `activation_scales` are of x, by the name of W in the checkpoint. Raises `ExportError` where one is missing, left
    over, or no positive number that float16 has.
    """
    for linear in layer_linears(draft, activation_scales):
        _rewrite(draft, linear, activation_scales[linear.source])


def _rewrite(draft: GraphDraft, linear: Linear, scale: float) -> None:
    slot, scope = linear.slot, linear.product.metadata_props[SCOPE]
    rounded, read = rounded_input(draft, linear, scale)
    codes, scales = (add_weight(draft, one) for one in _fill(draft, linear).slots)
    weight = ir.node("DequantizeLinear", [codes, scales], {"axis": 0})
    weight.outputs[0].shape = ir.Shape(slot.shape)
    weight.outputs[0].type = ir.TensorType(slot.dtype)
    weight.metadata_props[SCOPE] = scope
    draft.graph.insert_before(linear.transpose, weight)
    draft.graph.insert_before(linear.product, [rounded, read])
    linear.transpose.replace_input_with(0, weight.outputs[0])
    linear.product.replace_input_with(0, read.outputs[0])
    draft.graph.initializers.pop(slot.name)


def rounded_input(draft: GraphDraft, linear: Linear, scale: float) -> tuple[ir.Node, ir.Node]:
    """The two nodes between which the input of a linear has 8 bits; they are in no graph yet."""
    x, dtype, scope = linear.x, linear.slot.dtype, linear.product.metadata_props[SCOPE]
    assert x is not None
    of_x = constant(draft, f"{linear.slot.name}.input_scale", _in_type(linear.source, scale, dtype))
    rounded = ir.node("QuantizeLinear", [x, of_x], {"output_dtype": FLOAT8.value})
    rounded.outputs[0].type = ir.TensorType(FLOAT8)
    read = ir.node("DequantizeLinear", [rounded.outputs[0], of_x])
    read.outputs[0].type = ir.TensorType(dtype)
    for node in (rounded, read):
        node.metadata_props[SCOPE] = scope
        node.outputs[0].shape = x.shape
    return rounded, read


def _fill(draft: GraphDraft, linear: Linear) -> Float8Fill:
    rows, k = linear.slot.shape
    codes = Slot(name=f"{linear.slot.name}.float8", dtype=FLOAT8, shape=(rows, k))
    scales = Slot(name=f"{linear.slot.name}.scales", dtype=linear.slot.dtype, shape=(rows,))
    fill = Float8Fill(source=linear.source, shape=(rows, k), slots=(codes, scales))
    draft.fills[linear.slot.name] = fill
    return fill


def _in_type(source: str, scale: float, dtype: ir.DataType) -> np.generic:
    if not 0 < scale * LARGEST <= LARGEST_SCALED:
        raise ExportError(
            f"the scale of the input of {source} is {scale:g}, wanted is a positive number that float16 has",
            remedy="calibrate again on other requests, or use --precision int4",
        )
    value: np.generic = dtype.numpy().type(float8_scales(np.array(scale * LARGEST)))
    return value
