"""What a graph of the `tensorrt` dialect consists of, checked when all passes are done.

TensorRT's parser refuses some of what is wrong, and ignores some without a word: the lengths of an attention, for one.
So only what was seen to be parsed, built and used is let through, with the operands and attributes that it was seen
with (docs/decisions/0406-which-operators-for-tensorrt.md). What TensorRT itself made of it is checked when it builds.
"""

import onnx_ir as ir

from phiedge.errors import ExportError
from phiedge.exporters.dialects.tensorrt.forms import Form, Operators
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.graph_io import CHUNK
from phiedge.exporters.precision import GROUP_SIZES


def check_vision(draft: GraphDraft, form: Form) -> None:
    """Raises `ExportError` naming the first node that does not belong, or not as it is."""
    _check_operators(draft, form.vision)
    for node in draft.graph:
        if node.op_type == "Attention":
            _check_attention(draft, node)
            if len(_operands(node)) != 3:
                raise _wrong(
                    draft, node, f"has {len(_operands(node))} operands, wanted are 3: every patch sees every patch"
                )
        elif node.op_type in ("DequantizeLinear", "QuantizeLinear"):
            _check_eight_bits(draft, node)


def check_decoder(draft: GraphDraft, form: Form) -> None:
    """As `check_vision`; every attention must have its mask, and every cache be written in place, or only read."""
    _check_operators(draft, form.decoder)
    for node in draft.graph:
        if node.op_type == "Attention":
            _check_attention(draft, node)
            _check_masked(draft, node)
        elif node.op_type == "Softmax":
            _check_softmax(draft, node)
        elif node.op_type == "TensorScatter":
            _check_in_place(draft, node)
        elif node.op_type in ("DequantizeLinear", "QuantizeLinear"):
            _check_quantised(draft, node)
    for value in draft.graph.outputs:
        if str(value.name).startswith("present."):
            (_check_written if form.writes_caches else _check_rows)(value)
    for value in draft.graph.inputs:
        if str(value.name).startswith("past.") and not form.writes_caches:
            _check_only_read(value)


def _check_operators(draft: GraphDraft, allowed: Operators) -> None:
    for node in draft.graph:
        if node.domain or node.op_type not in allowed:
            raise _wrong(draft, node, "which no pass of the dialect took")
        dtype = node.inputs[0].dtype if node.inputs[0] is not None else None
        if dtype is not None and dtype not in allowed[node.op_type]:
            raise _wrong(draft, node, f"of {dtype.name}, which was not seen to work")


def _check_attention(draft: GraphDraft, node: ir.Node) -> None:
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


def _check_written(present: ir.Value) -> None:
    producer = present.producer()
    if producer is None or producer.op_type != "TensorScatter":
        raise ExportError(f"the cache {present.name} is not written in place", remedy=_REMEDY)


def _check_softmax(draft: GraphDraft, node: ir.Node) -> None:
    """Scores that come without the mask of all of them would weigh cache rows that were never written."""
    producer = node.inputs[0].producer() if node.inputs[0] is not None else None
    mask = (
        producer.inputs[1].producer() if producer is not None and producer.inputs[1:] and producer.inputs[1] else None
    )
    if producer is None or producer.op_type != "Add" or mask is None or mask.op_type != "Where":
        raise _wrong(draft, node, "of scores that have no mask")


def _check_only_read(past: ir.Value) -> None:
    """A cache stands on the left where it is keys, on the right where it is values, as it is: else it is copied."""
    side = 0 if str(past.name).endswith(".key") else 1
    uses = [(node.op_type, index) for node, index in past.uses()]
    fixed = past.shape is not None and past.shape.is_static()
    if uses != [("MatMul", side)] or not fixed:
        told = ", ".join(f"operand {index} of {op_type}" for op_type, index in uses) or "nothing"
        raise ExportError(
            f"the cache {past.name} {past.shape} is {told}, wanted is operand {side} of one MatMul", remedy=_REMEDY
        )


def _check_rows(present: ir.Value) -> None:
    producer = present.producer()
    if producer is None or producer.op_type != "Transpose" or present.shape is None or present.shape[2] != CHUNK:
        raise ExportError(f"{present.name} {present.shape} is not the chunk's new rows", remedy=_REMEDY)


def _check_quantised(draft: GraphDraft, node: ir.Node) -> None:
    values, scale = node.inputs[0], node.inputs[1]
    assert values is not None
    assert scale is not None
    if values.dtype == ir.DataType.INT4:
        _check_blocks(draft, node)
        return
    of_weight = values.is_initializer()
    rank = None if scale.shape is None else len(scale.shape)
    told = node.attributes.get("output_dtype")
    to_float8 = told is not None and told.as_int() == ir.DataType.FLOAT8E4M3FN
    if len(_operands(node)) != 2 or rank != int(of_weight) or to_float8 != (node.op_type == "QuantizeLinear"):
        raise _wrong(draft, node, f"of {values.name} with a scale of {rank} axes, wanted is one for all of an input")


def _check_eight_bits(draft: GraphDraft, node: ir.Node) -> None:
    """Inputs have one scale, and at int8 a zero that is 0; weights have a scale for each row, and no zero."""
    coded = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
    assert coded is not None
    of_weight = coded.is_initializer()
    scale = node.inputs[1]
    rank = None if scale is None or scale.shape is None else len(scale.shape)
    zeros = [value.const_value for value in _operands(node)[2:]]
    wanted = [0] if coded.dtype == ir.DataType.INT8 and not of_weight else []
    found = [None if zero is None else zero.numpy().tolist() for zero in zeros]
    if rank != int(of_weight) or found != wanted:
        raise _wrong(draft, node, f"of {coded.name} with a scale of {rank} axes and zeros of {found}")


def _check_blocks(draft: GraphDraft, node: ir.Node) -> None:
    operands, block_size = _operands(node), node.attributes["block_size"].as_int()
    if len(operands) != 2 or block_size not in GROUP_SIZES:
        raise _wrong(draft, node, f"with {len(operands)} operands and blocks of {block_size}")


def _operands(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None]


_REMEDY = "install the torch and onnxscript that constraints.txt names"


def _wrong(draft: GraphDraft, node: ir.Node, told: str) -> ExportError:
    return ExportError(f"the {draft.graph.name} graph has a {node.op_type} ({node.name}) {told}", remedy=_REMEDY)
