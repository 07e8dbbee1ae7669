"""The `ort` dialect: passes from a traced graph to the operators that ONNX Runtime runs best.

    attention.py     CachedAttention -> GroupQueryAttention, Attention -> MultiHeadAttention
    norms.py         RMSNormalization -> (Skip)SimplifiedLayerNormalization
    linears.py       MatMul(Transpose(W)) -> MatMulNBits; float16 storage for what is computed in float32
    float8.py        MatMul(Transpose(W)) of inputs and weights that are rounded to 8-bit floats
    vision_linears.py  Gemm of inputs and weights in 8 bits, where the plan wants them so
    packing.py       the bytes of MatMulNBits weights
    cache.py         a cache in int8, where the plan wants one
    contract.py      what may be left in a graph when all passes are done
    cuda_kernels.py  what of it CUDA computes in which types, where a graph is for a GPU

Every pass is one function that rewrites all that it understands and leaves the rest alone; the contract then names what
should not be there. Why these operators: docs/decisions/0402-why-fused-attention-on-onnx-runtime.md.
"""

from collections.abc import Mapping

from phiedge.exporters.dialects.ort.attention import use_group_query_attention, use_multi_head_attention
from phiedge.exporters.dialects.ort.contract import check_decoder, check_vision
from phiedge.exporters.dialects.ort.cuda_kernels import check_cuda
from phiedge.exporters.dialects.ort.float8 import use_float8
from phiedge.exporters.dialects.ort.linears import quantise_linears, store_as_float16
from phiedge.exporters.dialects.ort.norms import fuse_norms
from phiedge.exporters.dialects.ort.vision_linears import use_eight_bits
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.precision import PrecisionPlan


def to_ort_vision(draft: GraphDraft, plan: PrecisionPlan, *, input_scales: Mapping[str, float] | None = None) -> None:
    """Rewrite the vision graph in place; with linears in 8 bits, under the `input_scales` that calibration found."""
    use_multi_head_attention(draft)
    if plan.vision_linears is not None:
        use_eight_bits(draft, plan, input_scales or {})
    if plan.vision == "float16" and plan.activations == "float32":
        store_as_float16(draft)
    check_vision(draft, plan)
    if plan.for_cuda:
        check_cuda(draft)


def to_ort_decoder(
    draft: GraphDraft, plan: PrecisionPlan, *, activation_scales: Mapping[str, float] | None = None
) -> None:
    """Rewrite the decoder graph in place; at float8 with the `activation_scales` that calibration found."""
    use_group_query_attention(draft)
    fuse_norms(draft)
    if plan.group_size is not None:
        quantise_linears(draft, plan)
    if plan.decoder == "float8":
        use_float8(draft, activation_scales or {})
        store_as_float16(draft)
    check_decoder(draft, plan)
    if plan.for_cuda:
        check_cuda(draft)
