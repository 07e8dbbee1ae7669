"""The `tensorrt` dialect: passes from a traced graph to operators that TensorRT's parser takes and its kernels fuse.

    chunk.py      position_ids and last_row in place of lengths; where to write, rotation and mask, once for all layers
    attention.py  CachedAttention -> RotaryEmbedding, TensorScatter into the cache, Attention under the mask
    last_row.py   the last layer goes on with the row that the host names, for a chunk may be padded
    linears.py    MatMul(Transpose(W)) -> MatMul(Transpose(DequantizeLinear(codes, scales))), int4 in blocks
    packing.py    the bytes of those codes
    contract.py   what may be left in a graph when all passes are done, and in which form

Standard operators of opset 24 only, so that ONNX Runtime computes the same file that TensorRT parses, and its numbers
can be checked where there is no GPU. This is the modern form, for TensorRT-RTX 1.7 and TensorRT from 10.16 on. The
capacity of the caches is a number in the graph, the context that it was exported for. Why these operators:
docs/decisions/0406-which-operators-for-tensorrt.md.
"""

from phiedge.errors import ExportError
from phiedge.exporters.dialects.tensorrt.attention import use_scattered_cache
from phiedge.exporters.dialects.tensorrt.chunk import drop_lengths, take_positions
from phiedge.exporters.dialects.tensorrt.contract import OPSET, check_decoder, check_vision
from phiedge.exporters.dialects.tensorrt.last_row import take_last_row
from phiedge.exporters.dialects.tensorrt.linears import quantise_linears
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.precision import PrecisionPlan

__all__ = ["OPSET", "to_tensorrt_decoder", "to_tensorrt_vision"]

_IR_VERSION = 11  # what ONNX released with opset 24


def to_tensorrt_vision(draft: GraphDraft, plan: PrecisionPlan) -> None:
    """Rewrite the vision graph in place: the trace already has what TensorRT fuses."""
    if plan.vision != plan.activations:
        raise ExportError(
            f"vision weights are to be stored as {plan.vision} and computed in {plan.activations}: TensorRT would keep "
            f"them as {plan.activations}",
            remedy="use a plan of `for_tensorrt`, which computes in float16",
        )
    _set_opset(draft)
    check_vision(draft)


def to_tensorrt_decoder(draft: GraphDraft, plan: PrecisionPlan) -> None:
    """Rewrite the decoder graph in place."""
    chunk = take_positions(draft)
    use_scattered_cache(draft, chunk)
    take_last_row(draft)
    drop_lengths(draft)
    if plan.group_size is not None:
        quantise_linears(draft, plan)
    _set_opset(draft)
    check_decoder(draft)


def _set_opset(draft: GraphDraft) -> None:
    """The operators of the trace mean the same in opset 24 as in its own."""
    draft.model.opset_imports[""] = OPSET
    draft.model.ir_version = _IR_VERSION
