"""The linears of a traced decoder, and what of one is to become groups of small integers; the same in every dialect."""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from phiedge.errors import ExportError
from phiedge.exporters.dialects.rewrite import nodes_of
from phiedge.exporters.draft import GraphDraft, slot_of
from phiedge.exporters.precision import GROUP_SIZES, PrecisionPlan
from phiedge.exporters.weights import Slot

LM_HEAD = "lm_head.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """`product` = MatMul(x, `transpose`(W)), where W is `slot` [N, K] of the tensor `source`."""

    product: ir.Node
    transpose: ir.Node
    slot: Slot
    source: str

    @property
    def x(self) -> ir.Value | None:
        return self.product.inputs[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedLinear(Linear):
    """A linear whose weight is wanted as groups of integers of `bits`."""

    bits: int


def linears(draft: GraphDraft) -> Iterator[Linear]:
    """The linears of a decoder; each may be replaced before the next is asked for."""
    for product in nodes_of(draft, "MatMul"):
        transposed = product.inputs[1]
        transpose = transposed.producer() if transposed is not None else None
        weight = transpose.inputs[0] if transpose is not None and transpose.op_type == "Transpose" else None
        if transpose is None or weight is None or weight.name not in draft.fills:
            continue
        slot = slot_of(weight)
        source = draft.fills[slot.name].source
        assert source is not None
        yield Linear(product=product, transpose=transpose, slot=slot, source=source)


def grouped_linears(draft: GraphDraft, plan: PrecisionPlan) -> Iterator[GroupedLinear]:
    """The linears that the plan wants in groups of integers; each may be replaced before the next is asked for.

    Raises `ExportError` where K is not a multiple of the group size. MatMulNBits could pad the last group, but
    TensorRT's block quantisation cannot, and a bundle must not mean different weights to different engines.
    """
    for linear in linears(draft):
        bits = plan.lm_head_bits if linear.slot.name == LM_HEAD else plan.linear_bits(linear.source)
        if bits is None:
            continue
        _check_groups(linear.source, linear.slot.shape[1], plan)
        yield GroupedLinear(
            product=linear.product, transpose=linear.transpose, slot=linear.slot, source=linear.source, bits=bits
        )


def _check_groups(source: str, k: int, plan: PrecisionPlan) -> None:
    assert plan.group_size is not None
    if k % plan.group_size:
        fitting = [str(size) for size in GROUP_SIZES if k % size == 0]
        raise ExportError(
            f"{source} has K = {k}, which is not a multiple of the group size {plan.group_size}",
            remedy="use --precision fp16"
            + (f", or a plan with a group size of {' or '.join(fitting)}" if fitting else ""),
        )
