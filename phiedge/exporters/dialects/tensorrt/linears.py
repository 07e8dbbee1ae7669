"""Linear layers of the decoder for TensorRT: int4 in blocks, with the node that its kernels fuse into the product."""

import onnx_ir as ir

from phiedge.errors import ExportError
from phiedge.exporters.dialects.linear import GroupedLinear, grouped_linears
from phiedge.exporters.dialects.rewrite import add_weight
from phiedge.exporters.dialects.tensorrt.packing import pack_int4, pack_int4_float16
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.precision import PrecisionPlan
from phiedge.exporters.trace import SCOPE
from phiedge.exporters.weights import GroupedFill, Slot

_ACTIVATIONS_AS_THEY_ARE = 1  # in the terms of MatMulNBits: nothing rounds them to int8


def quantise_linears(draft: GraphDraft, plan: PrecisionPlan) -> None:
    """MatMul(x, Transpose(W)) -> MatMul(x, Transpose(DequantizeLinear(codes, scales))) for the decoder's linears.

    W stays [N, K], as the checkpoint has it, so that its rows can be streamed; TensorRT folds the transposition.
    Raises as `grouped_linears`, and for weights of 8 bits.
    """
    for linear in grouped_linears(draft, plan):
        if linear.bits != 4:
            raise ExportError(
                f"{linear.source} is to be int{linear.bits}, for which TensorRT has no matrix product that reads it as "
                "it is stored",
                remedy="use a plan of `for_tensorrt`, which has it as int4",
            )
        fill = _grouped(linear, plan)
        draft.fills[linear.slot.name] = fill
        codes, scales = (add_weight(draft, slot) for slot in fill.slots)
        dequantise = ir.node("DequantizeLinear", [codes, scales], {"axis": 1, "block_size": fill.group_size})
        dequantise.metadata_props[SCOPE] = linear.transpose.metadata_props[SCOPE]
        dequantise.outputs[0].shape = ir.Shape(linear.slot.shape)
        dequantise.outputs[0].dtype = linear.slot.dtype
        draft.graph.insert_before(linear.transpose, dequantise)
        linear.transpose.replace_input_with(0, dequantise.outputs[0])
        draft.graph.initializers.pop(linear.slot.name)


def _grouped(linear: GroupedLinear, plan: PrecisionPlan) -> GroupedFill:
    assert plan.group_size is not None
    rows, k = linear.slot.shape
    codes = Slot(name=f"{linear.slot.name}.int4", dtype=ir.DataType.INT4, shape=(rows, k))
    scales = Slot(name=f"{linear.slot.name}.scales", dtype=linear.slot.dtype, shape=(rows, k // plan.group_size))
    return GroupedFill(
        source=linear.source,
        shape=(rows, k),
        bits=4,
        group_size=plan.group_size,
        accuracy_level=_ACTIVATIONS_AS_THEY_ARE,
        slots=(codes, scales),
        pack=pack_int4_float16 if scales.dtype == ir.DataType.FLOAT16 else pack_int4,
    )
