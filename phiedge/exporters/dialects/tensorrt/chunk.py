"""What all layers share of a chunk: where it goes in the cache, its rotation, and what each of its rows may see.

The host tells the positions of the rows and which row is the last that counts. `seqlens_k` and
`total_sequence_length`, which say as much to ONNX Runtime, would not do: an engine runs chunks of one fixed size, so a
chunk may be padded at its end.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from phiedge.exporters.dialects.rewrite import constant, prepend
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.graph_io import CAPACITY, CHUNK, LAST_ROW, POSITION_IDS

# What is added to the score of a cache row that must not be seen. Its weight is then exactly 0, as an infinity would
# make it; but no sum leaves float16, and a kernel that goes through the cache in tiles meets none of infinities alone.
MASKED = -30000.0
_LENGTHS = ("seqlens_k", "total_sequence_length")


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """`value` is the input `position_ids` [1, t] int64; the tables are [capacity, half] each."""

    value: ir.Value
    cos_cache: ir.Value
    sin_cache: ir.Value
    capacity: int
    half: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """`first` [1] int64 is the cache row of the chunk's first row, `cos` and `sin` are [1, t, D / 2], and `mask`
    [1, 1, t, capacity] is added to scores.
    """

    first: ir.Value
    cos: ir.Value
    sin: ir.Value
    mask: ir.Value


def take_positions(draft: GraphDraft) -> Positions:
    """Let the host tell `position_ids` and `last_row`, and caches have as many rows as there are positions.

    The inputs that this replaces stay until `drop_lengths`, for whoever has not been rewritten yet.
    """
    graph = draft.graph
    embeds, *others = graph.inputs
    positions, last_row = _int64_input(POSITION_IDS, 1, CHUNK), _int64_input(LAST_ROW, 1)
    graph.inputs[:] = [embeds, positions, last_row, *others]
    cos_cache, sin_cache = graph.initializers["cos_cache"], graph.initializers["sin_cache"]
    assert cos_cache.shape is not None
    capacity, half = (int(side) for side in cos_cache.shape.numpy())
    _fix_capacity(graph, capacity)
    return Positions(value=positions, cos_cache=cos_cache, sin_cache=sin_cache, capacity=capacity, half=half)


def read_positions(draft: GraphDraft, positions: Positions) -> Chunk:
    """Make of the positions what attention to a cache that is written in place needs, once."""
    cos_cache, sin_cache, half = positions.cos_cache, positions.sin_cache, positions.half
    first = ir.node("Gather", [positions.value, constant(draft, "zero", np.int64(0))], {"axis": 1})
    cos, sin = (ir.node("Gather", [table, positions.value], {"axis": 0}) for table in (cos_cache, sin_cache))
    mask = _mask(draft, positions.value, positions.capacity)
    prepend(draft, [first, cos, sin, *mask])
    _typed(first, ir.DataType.INT64, 1)
    _typed(cos, cos_cache.dtype, 1, CHUNK, half)
    _typed(sin, sin_cache.dtype, 1, CHUNK, half)
    _typed(mask[-1], cos_cache.dtype, 1, 1, CHUNK, positions.capacity)
    return Chunk(first=first.outputs[0], cos=cos.outputs[0], sin=sin.outputs[0], mask=mask[-1].outputs[0])


def drop_lengths(draft: GraphDraft) -> None:
    """Remove the lengths that ONNX Runtime is told, once no node reads them."""
    left = [value for value in draft.graph.inputs if value.name not in _LENGTHS or value.uses()]
    draft.graph.inputs[:] = left


def _fix_capacity(graph: ir.Graph, capacity: int) -> None:
    """Give the caches as many rows as there are positions; TensorRT writes in place only where that is a number."""
    for value in (*graph.inputs, *graph.outputs):
        if str(value.name).startswith(("past.", "present.")):
            assert value.shape is not None
            value.shape = ir.Shape([capacity if str(side) == CAPACITY else side for side in value.shape])


def _mask(draft: GraphDraft, positions: ir.Value, capacity: int) -> list[ir.Node]:
    """0 where a cache row is not after the chunk's row, `MASKED` where it is; rows never written are always after."""
    cache_dtype = draft.graph.initializers["cos_cache"].dtype
    assert cache_dtype is not None
    dtype = cache_dtype.numpy()
    bounds = [constant(draft, name, np.int64(value)) for name, value in (("zero", 0), ("end", capacity), ("one", 1))]
    columns = ir.node("Range", bounds)
    rows = ir.node("Unsqueeze", [positions, constant(draft, "around_rows", np.array([1, 3]))])
    visible = ir.node("LessOrEqual", [columns.outputs[0], rows.outputs[0]])
    seen, unseen = (constant(draft, name, dtype.type(value)) for name, value in (("seen", 0), ("unseen", MASKED)))
    mask = ir.node("Where", [visible.outputs[0], seen, unseen])
    return [columns, rows, visible, mask]


def _int64_input(name: str, *shape: int | str) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.INT64))


def _typed(node: ir.Node, dtype: ir.DataType | None, *shape: int | str) -> None:
    assert dtype is not None
    node.outputs[0].shape, node.outputs[0].dtype = ir.Shape(shape), dtype
