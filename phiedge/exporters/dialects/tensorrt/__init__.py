"""The `tensorrt` dialect: passes from a traced graph to operators that TensorRT's parser takes and its kernels fuse.

    forms.py              the two forms, and which operators each may have: all that they differ in
    linears.py            MatMul(Transpose(W)) -> MatMul(Transpose(DequantizeLinear(codes, scales))), int4 in blocks
    packing.py            the bytes of those codes
    float8.py             the same of 8-bit floats, x, too, where calibration found its scale (modern form)
    vision_linears.py     the same in the vision graph, of int8 or 8-bit floats
    chunk.py              position_ids and last_row in place of lengths
    last_row.py           the last layer goes on with the row that the host names, for a chunk may be padded
    contract.py           what may be left in a graph when all passes are done, and in which form

In the modern form, for TensorRT-RTX 1.7 and TensorRT from 10.16 on, which write caches in place:

    attention.py          CachedAttention -> RotaryEmbedding, TensorScatter into the cache, Attention under the mask

In the conservative form, for TensorRT from 10.3 on, which reads caches and gives new rows:

    read_only_cache.py    CachedAttention -> products over the cache and over the chunk, under one softmax
    picture_attention.py  Attention -> products and a softmax
    norms.py              RMSNormalization -> its arithmetic
    written_out.py        what those are made of

Standard operators only, so that ONNX Runtime computes the same file that TensorRT parses, and its numbers can be
checked where there is no GPU. The capacity of the caches is a number in the graph, the context that it was exported
for. Why these operators: docs/decisions/0406-which-operators-for-tensorrt.md and 0407.
"""

from collections.abc import Mapping

from phiedge.errors import ExportError
from phiedge.exporters.dialects.tensorrt.attention import use_scattered_cache
from phiedge.exporters.dialects.tensorrt.chunk import drop_lengths, read_positions, take_positions
from phiedge.exporters.dialects.tensorrt.contract import check_decoder, check_vision
from phiedge.exporters.dialects.tensorrt.float8 import use_float8
from phiedge.exporters.dialects.tensorrt.forms import CONSERVATIVE, FORMS, MODERN, Form
from phiedge.exporters.dialects.tensorrt.last_row import take_last_row
from phiedge.exporters.dialects.tensorrt.linears import quantise_linears
from phiedge.exporters.dialects.tensorrt.norms import write_out_norms
from phiedge.exporters.dialects.tensorrt.picture_attention import write_out_attention
from phiedge.exporters.dialects.tensorrt.read_only_cache import use_read_only_cache
from phiedge.exporters.dialects.tensorrt.vision_linears import use_eight_bits
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.precision import PrecisionPlan

__all__ = ["CONSERVATIVE", "FORMS", "MODERN", "Form", "to_tensorrt_decoder", "to_tensorrt_vision"]


def to_tensorrt_vision(
    draft: GraphDraft,
    plan: PrecisionPlan,
    form: Form = MODERN,
    *,
    input_scales: Mapping[str, float] | None = None,
) -> None:
    """Rewrite the vision graph in place: the trace already has what TensorRT fuses, if its parser knows attention.

    `input_scales` are those of linears in 8 bits, which calibration found.
    """
    if plan.vision != plan.activations:
        raise ExportError(
            f"vision weights are to be stored as {plan.vision} and computed in {plan.activations}: TensorRT would keep "
            f"them as {plan.activations}",
            remedy="use a plan of `for_tensorrt`, which computes in float16",
        )
    if plan.vision_linears is not None:
        if plan.vision_linears == "float8":
            _check_float8(form)
        use_eight_bits(draft, plan, input_scales or {})
    if not form.has_attention:
        write_out_attention(draft)
    _set_opset(draft, form)
    check_vision(draft, form)


def to_tensorrt_decoder(
    draft: GraphDraft,
    plan: PrecisionPlan,
    form: Form = MODERN,
    *,
    activation_scales: Mapping[str, float] | None = None,
) -> None:
    """Rewrite the decoder graph in place.

    At float8 the linears of all layers are computed in 8-bit floats, which only GPUs from SM 89 on can, with
    `activation_scales` for their inputs, by the names of weights in the checkpoint.
    """
    if plan.group_size is not None:
        quantise_linears(draft, plan)
    if plan.decoder == "float8":
        _check_float8(form)
        use_float8(draft, activation_scales or {})
    positions = take_positions(draft)
    if form.writes_caches:
        use_scattered_cache(draft, read_positions(draft, positions))
    else:
        use_read_only_cache(draft, positions)
    if not form.has_rms_norm:
        write_out_norms(draft)
    take_last_row(draft)
    drop_lengths(draft)
    _set_opset(draft, form)
    check_decoder(draft, form)


def _check_float8(form: Form) -> None:
    if not form.has_float8:
        raise ExportError(
            f"float8 products are wanted in the dialect {form.name}, which has none",
            remedy=f"use the dialect {MODERN.name}",
        )


def _set_opset(draft: GraphDraft, form: Form) -> None:
    """The operators of the trace mean the same in the opset of the form as in their own."""
    draft.model.opset_imports[""] = form.opset
    draft.model.ir_version = form.ir_version
