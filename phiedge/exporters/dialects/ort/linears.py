"""Linear layers for ONNX Runtime: grouped integers in the decoder, float16 on disk in the vision graph.

Where TensorRT shares the weights they are stored as it wants them: codes with a sign, scales in float16. The graph then
turns them into what MatMulNBits takes, which ONNX Runtime computes once, when it opens it.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace as replace_fields

import numpy as np
import onnx_ir as ir

from phiedge.exporters.dialects.linear import GroupedLinear, grouped_linears
from phiedge.exporters.dialects.ort.packing import pack_matmul_nbits
from phiedge.exporters.dialects.rewrite import MICROSOFT, add_weight, constant, replace
from phiedge.exporters.dialects.tensorrt.packing import HIGHEST_BITS, pack_int4_float16
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.precision import PrecisionPlan
from phiedge.exporters.quantised import QuantisedWeight
from phiedge.exporters.trace import SCOPE
from phiedge.exporters.weights import Array, FloatFill, GroupedFill, Slot

# A CPU's kernel may round activations to int8, in the same groups as the weights: twice the speed for about half a
# percent of error, beside the tenth that 4 bits cost (docs/decisions/0403-what-group-size-for-which-target.md).
ACCURACY_LEVEL = 4
# A GPU's kernel never rounds them, whatever the node says. So a CPU must not, either, when it computes the goldens of a
# bundle for a GPU.
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
        codes, scales = (add_weight(draft, slot) for slot in fill.slots)
        if plan.codes == "signed":
            codes = computed(draft, "BitwiseXor", [codes, constant(draft, "highest_bits", HIGHEST_BITS)], {})
        if scales.dtype != linear.slot.dtype:
            assert linear.slot.dtype is not None
            scales = computed(draft, "Cast", [scales], {"to": linear.slot.dtype.value})
        operands = [linear.x, codes, scales]
        fused = ir.node("MatMulNBits", operands, attributes, domain=MICROSOFT)
        replace(draft, [linear.transpose, linear.product], [fused], linear.product.outputs, fused.outputs)
        draft.graph.initializers.pop(linear.slot.name)
    if plan.wider_as == "float16":
        store_as_float16(draft, plan.wider)


def _grouped(linear: GroupedLinear, plan: PrecisionPlan) -> GroupedFill:
    assert plan.group_size is not None
    slot, bits = linear.slot, linear.bits
    rows, k = slot.shape
    groups = k // plan.group_size
    blob_bytes = plan.group_size * bits // 8
    codes = Slot(name=f"{slot.name}.int{bits}", dtype=ir.DataType.UINT8, shape=(rows, groups, blob_bytes))
    scales = Slot(name=f"{slot.name}.scales", dtype=slot.dtype, shape=(rows, groups))
    pack = _pack_float16 if slot.dtype == ir.DataType.FLOAT16 else pack_matmul_nbits
    if plan.codes == "signed":
        codes = replace_fields(codes, content=f"{codes.name} {ir.DataType.INT4.name}")
        scales, pack = replace_fields(scales, dtype=ir.DataType.FLOAT16), pack_int4_float16
    return GroupedFill(
        source=linear.source,
        shape=(rows, k),
        bits=bits,
        group_size=plan.group_size,
        accuracy_level=ACCURACY_LEVEL if plan.codes == "offset" else GPU_ACCURACY_LEVEL,
        slots=(codes, scales),
        pack=pack,
    )


def computed(draft: GraphDraft, op_type: str, operands: Sequence[ir.Value], attributes: dict[str, int]) -> ir.Value:
    """What ONNX Runtime computes from a weight once, when it opens the graph, and keeps in its place."""
    weight = operands[0]
    node = ir.node(op_type, operands, attributes)
    node.metadata_props[SCOPE] = str(weight.name).rpartition(".")[0]
    output = node.outputs[0]
    output.shape, output.type = weight.shape, weight.type
    if attributes:
        output.type = ir.TensorType(ir.DataType(attributes["to"]))
    draft.graph.insert_before(draft.graph[0], node)
    return output


def _pack_float16(weight: QuantisedWeight) -> tuple[Array, ...]:
    """As `pack_matmul_nbits`, for float16 activations, which want scales of their own type; every scale has one."""
    codes, scales = pack_matmul_nbits(weight)
    return codes, scales.astype(np.float16)


def store_as_float16(draft: GraphDraft, sources: Collection[str] | None = None) -> None:
    """Keep all but norms as float16 in the file and cast it in the graph; ONNX Runtime does so once, when it loads.

    `sources` are the tensors of the checkpoint that this is done to; None: all.
    """
    for parameter, fill in draft.fills.items():
        if not isinstance(fill, FloatFill) or fill.slot.dtype != ir.DataType.FLOAT:
            continue
        if sources is not None and fill.source not in sources:
            continue
        value = draft.graph.initializers[parameter]
        if any("LayerNormalization" in use.node.op_type for use in value.uses()):
            continue
        stored = replace_fields(fill.slot, dtype=ir.DataType.FLOAT16)
        slot = replace_fields(stored, name=f"{parameter}.float16", content=stored.key)
        cast = computed(draft, "Cast", [add_weight(draft, slot)], {"to": ir.DataType.FLOAT.value})
        value.replace_all_uses_with(cast)
        draft.graph.initializers.pop(parameter)
        draft.fills[parameter] = FloatFill(source=fill.source, slot=slot)
