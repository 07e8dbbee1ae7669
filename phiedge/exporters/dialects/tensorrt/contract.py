"""What a graph of the `tensorrt` dialect consists of, checked when all passes are done.

TensorRT's parser refuses some of what is wrong, and ignores some without a word: the lengths of an attention, for one.
So only what was seen to be parsed, built and used is let through, with the operands and attributes that it was seen
with (docs/decisions/0406-which-operators-for-tensorrt.md). What TensorRT itself made of it is checked when it builds.
"""

from collections.abc import Mapping

import onnx_ir as ir

from phiedge.errors import ExportError
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.precision import GROUP_SIZES

OPSET = 24  # the first with TensorScatter
_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16})
_INT64 = frozenset({ir.DataType.INT64})

# By operator the types of its first operand.
VISION: Mapping[str, frozenset[ir.DataType]] = {
    "Add": _FLOATS,
    "Attention": _FLOATS,
    "Cast": _FLOATS,
    "Gelu": _FLOATS,
    "Gemm": _FLOATS,
    "LayerNormalization": _FLOATS,
    "Squeeze": _FLOATS,
    "Unsqueeze": _FLOATS,
}
DECODER: Mapping[str, frozenset[ir.DataType]] = {
    "Add": _FLOATS,
    "Attention": _FLOATS,
    "Cast": _FLOATS,
    "DequantizeLinear": frozenset({ir.DataType.INT4}),
    "Gather": _FLOATS | _INT64,
    "LessOrEqual": _INT64,
    "MatMul": _FLOATS,
    "Mul": _FLOATS,
    "RMSNormalization": _FLOATS,
    "Range": _INT64,
    "Reshape": _FLOATS,
    "RotaryEmbedding": _FLOATS,
    "Sigmoid": _FLOATS,
    "Split": _FLOATS,
    "TensorScatter": _FLOATS,
    "Transpose": _FLOATS,
    "Unsqueeze": _INT64,
    "Where": frozenset({ir.DataType.BOOL}),
}


def check_vision(draft: GraphDraft) -> None:
    """Raises `ExportError` naming the first node that does not belong, or not as it is."""
    _check_operators(draft, VISION)
    for node in draft.graph:
        if node.op_type == "Attention" and len(_operands(node)) != 3:
            raise _wrong(
                draft, node, f"has {len(_operands(node))} operands, wanted are 3: every patch sees every patch"
            )
    _check_attentions(draft)


def check_decoder(draft: GraphDraft) -> None:
    """As `check_vision`; every attention must have its mask, and every cache must be written in place."""
    _check_operators(draft, DECODER)
    _check_attentions(draft)
    for node in draft.graph:
        if node.op_type == "Attention":
            _check_masked(draft, node)
        elif node.op_type == "TensorScatter":
            _check_in_place(draft, node)
        elif node.op_type == "DequantizeLinear":
            _check_blocks(draft, node)
    for value in draft.graph.outputs:
        producer = value.producer()
        if str(value.name).startswith("present.") and (producer is None or producer.op_type != "TensorScatter"):
            raise ExportError(f"the cache {value.name} is not written in place", remedy=_REMEDY)


def _check_operators(draft: GraphDraft, allowed: Mapping[str, frozenset[ir.DataType]]) -> None:
    for node in draft.graph:
        if node.domain or node.op_type not in allowed:
            raise _wrong(draft, node, "which no pass of the dialect took")
        dtype = node.inputs[0].dtype if node.inputs[0] is not None else None
        if dtype is not None and dtype not in allowed[node.op_type]:
            raise _wrong(draft, node, f"of {dtype.name}, which was not seen to work")


def _check_attentions(draft: GraphDraft) -> None:
    for node in draft.graph:
        if node.op_type != "Attention":
            continue
        causal = node.attributes.get("is_causal")
        if len(_operands(node)) > 4 or len(node.outputs) != 1 or (causal is not None and causal.as_int()):
            raise _wrong(draft, node, "with lengths, a past or is_causal, which TensorRT ignores or reads otherwise")
        if "softmax_precision" in node.attributes:
            raise _wrong(draft, node, "with softmax_precision, which TensorRT refuses")


def _check_masked(draft: GraphDraft, node: ir.Node) -> None:
    operands = _operands(node)
    if len(operands) != 4 or operands[3].dtype != operands[1].dtype:
        raise _wrong(draft, node, "without a mask of the type of the cache")
    for cache in operands[1:3]:
        producer = cache.producer()
        if producer is None or producer.op_type != "TensorScatter":
            raise _wrong(draft, node, f"which reads {cache.name} in place of a cache that the graph has written")


def _check_in_place(draft: GraphDraft, node: ir.Node) -> None:
    past, present = node.inputs[0], node.outputs[0]
    assert past is not None
    slot = str(past.name).removeprefix("past.")
    is_cache = past.is_graph_input() and present.is_graph_output() and present.name == f"present.{slot}"
    fixed = past.shape is not None and past.shape.is_static()
    mode, axis = node.attributes["mode"].as_string(), node.attributes["axis"].as_int()
    if not (is_cache and fixed) or mode != "linear" or axis != 2:
        raise _wrong(draft, node, f"from {past.name} to {present.name}, {mode} along axis {axis}")


def _check_blocks(draft: GraphDraft, node: ir.Node) -> None:
    operands, block_size = _operands(node), node.attributes["block_size"].as_int()
    if len(operands) != 2 or block_size not in GROUP_SIZES:
        raise _wrong(draft, node, f"with {len(operands)} operands and blocks of {block_size}")


def _operands(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None]


_REMEDY = "install the torch and onnxscript that constraints.txt names"


def _wrong(draft: GraphDraft, node: ir.Node, told: str) -> ExportError:
    return ExportError(f"the {draft.graph.name} graph has a {node.op_type} ({node.name}) {told}", remedy=_REMEDY)
