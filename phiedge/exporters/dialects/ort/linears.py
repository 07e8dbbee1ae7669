"""Linear layers for ONNX Runtime: grouped integers in the decoder, float16 on disk in the vision graph."""

import numpy as np
import onnx_ir as ir

from phiedge.exporters.dialects.linear import GroupedLinear, grouped_linears
from phiedge.exporters.dialects.ort.packing import pack_matmul_nbits
from phiedge.exporters.dialects.rewrite import MICROSOFT, add_weight, replace
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.precision import PrecisionPlan
from phiedge.exporters.quantised import QuantisedWeight
from phiedge.exporters.trace import SCOPE
from phiedge.exporters.weights import Array, FloatFill, GroupedFill, Slot

# A CPU's kernel may round activations to int8, in the same groups as the weights: twice the speed for about half a
# percent of error, beside the tenth that 4 bits cost (docs/decisions/0403-what-group-size-for-which-target.md).
ACCURACY_LEVEL = 4
# A GPU's kernel never rounds them, whatever the node says. So a CPU must not, either, when it computes the goldens.
GPU_ACCURACY_LEVEL = 1


def quantise_linears(draft: GraphDraft, plan: PrecisionPlan) -> None:
    """MatMul(x, Transpose(W)) -> MatMulNBits(x, codes, scales) for every linear of the decoder.

    Raises as `grouped_linears`.
    """
    for linear in grouped_linears(draft, plan):
        fill = _grouped(linear, plan)
        draft.fills[linear.slot.name] = fill
        rows, k = fill.shape
        attributes = {
            "K": k,
            "N": rows,
            "bits": fill.bits,
            "block_size": fill.group_size,
            "accuracy_level": fill.accuracy_level,
        }
        operands = [linear.x, *(add_weight(draft, slot) for slot in fill.slots)]
        fused = ir.node("MatMulNBits", operands, attributes, domain=MICROSOFT)
        replace(draft, [linear.transpose, linear.product], [fused], linear.product.outputs, fused.outputs)
        draft.graph.initializers.pop(linear.slot.name)


def _grouped(linear: GroupedLinear, plan: PrecisionPlan) -> GroupedFill:
    assert plan.group_size is not None
    slot, bits = linear.slot, linear.bits
    rows, k = slot.shape
    groups = k // plan.group_size
    blob_bytes = plan.group_size * bits // 8
    codes = Slot(name=f"{slot.name}.int{bits}", dtype=ir.DataType.UINT8, shape=(rows, groups, blob_bytes))
    scales = Slot(name=f"{slot.name}.scales", dtype=slot.dtype, shape=(rows, groups))
    return GroupedFill(
        source=linear.source,
        shape=(rows, k),
        bits=bits,
        group_size=plan.group_size,
        accuracy_level=GPU_ACCURACY_LEVEL if plan.for_cuda else ACCURACY_LEVEL,
        slots=(codes, scales),
        pack=_pack_float16 if slot.dtype == ir.DataType.FLOAT16 else pack_matmul_nbits,
    )


def _pack_float16(weight: QuantisedWeight) -> tuple[Array, ...]:
    """As `pack_matmul_nbits`, for float16 activations, which want scales of their own type; every scale has one."""
    codes, scales = pack_matmul_nbits(weight)
    return codes, scales.astype(np.float16)


def store_as_float16(draft: GraphDraft) -> None:
    """Keep matrices as float16 in the file and cast them in the graph; ONNX Runtime does so once, when it loads."""
    first = next(iter(draft.graph))
    for parameter, fill in draft.fills.items():
        if not isinstance(fill, FloatFill) or len(fill.slot.shape) < 2 or fill.slot.dtype != ir.DataType.FLOAT:
            continue
        value = draft.graph.initializers[parameter]
        slot = Slot(name=f"{parameter}.float16", dtype=ir.DataType.FLOAT16, shape=fill.slot.shape)
        cast = ir.node("Cast", [add_weight(draft, slot)], {"to": ir.DataType.FLOAT.value})
        cast.metadata_props[SCOPE] = parameter.rpartition(".")[0]
        value.replace_all_uses_with(cast.outputs[0])
        cast.outputs[0].shape, cast.outputs[0].type = value.shape, value.type
        draft.graph.insert_before(first, cast)
        draft.graph.initializers.pop(parameter)
        draft.fills[parameter] = FloatFill(source=fill.source, slot=slot)
