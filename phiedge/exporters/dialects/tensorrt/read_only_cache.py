r"""Attention over a cache that the graph only reads, written out in products and a softmax.

    qkv -> Split -> heads, rotated -> keys  . queries   -> Concat -> Transpose -> + mask -> Softmax
              |           |        \-> cached keys . queries -/                               |
              |           \-> present: new rows, which the host puts into the cache         Slice
              \-> values --------------------------------------------> Add <- two products <--/

Operands stand so that no cache is copied. Products are of keys by queries, not of queries by keys: TensorRT-RTX 1.7.1
writes a transposed copy of what stands on the right. Scores are as many as the copy would be at a chunk, but few at a
step, and turning them around is part of the softmax's kernel. Queries that share keys are rows of one product, so that
a cache is read once for all of them.

The scale is in the rotation of the queries, made once for all layers: no product without it leaves float16.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from phiedge.exporters.attention_op import NAMESPACE
from phiedge.exporters.dialects.rewrite import nodes_of, prepend, replace
from phiedge.exporters.dialects.tensorrt.chunk import MASKED, Positions
from phiedge.exporters.dialects.tensorrt.written_out import NodeList
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.graph_io import CHUNK
from phiedge.exporters.trace import CACHED_ATTENTION

_NEVER = np.iinfo(np.int32).max  # a position after all; and an end of a Slice that is after all


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """The sizes of one attention. `shared` queries read the same keys."""

    queries: int
    keys: int
    size: int
    capacity: int

    @property
    def shared(self) -> int:
        return self.queries // self.keys

    @property
    def widths(self) -> list[int]:
        """Of queries, keys and values in a row."""
        return [self.queries * self.size, self.keys * self.size, self.keys * self.size]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all layers read: `keys` and `queries` are (cos, sin) [t, 1, D / 2], `mask` [t * shared, capacity + t]."""

    keys: tuple[ir.Value, ir.Value]
    queries: tuple[ir.Value, ir.Value]
    mask: ir.Value


def use_read_only_cache(draft: GraphDraft, positions: Positions) -> None:
    """CachedAttention -> products over the cache and over the chunk's own rows, under one softmax."""
    attentions = nodes_of(draft, CACHED_ATTENTION, domain=NAMESPACE)
    heads, scale = _heads(attentions[0], positions), attentions[0].attributes["scale"].as_float()
    shared = _shared(draft, positions, heads, scale)
    _give_rows(draft.graph, heads)
    for node in attentions:
        _rewrite(draft, node, heads, shared)
    draft.model.opset_imports.pop(NAMESPACE, None)


def _heads(node: ir.Node, positions: Positions) -> Heads:
    return Heads(
        queries=node.attributes["num_heads"].as_int(),
        keys=node.attributes["kv_heads"].as_int(),
        size=2 * positions.half,
        capacity=positions.capacity,
    )


def _give_rows(graph: ir.Graph, heads: Heads) -> None:
    """Let `present.*` be new rows alone."""
    for value in graph.outputs:
        if str(value.name).startswith("present."):
            value.shape = ir.Shape([1, heads.keys, CHUNK, heads.size])


def _shared(draft: GraphDraft, positions: Positions, heads: Heads, scale: float) -> Shared:
    new = NodeList(draft)
    axis_0, axis_1 = new.constant("axis_0", np.array([0])), new.constant("axis_1", np.array([1]))
    rows = new.add("Squeeze", [positions.value, axis_0])
    keys = tuple(_gathered(new, table, rows, axis_1) for table in (positions.cos_cache, positions.sin_cache))
    dtype = positions.cos_cache.dtype
    assert dtype is not None
    factor = new.constant("scale", dtype.numpy().type(scale))
    queries = tuple(new.add("Mul", [table, factor]) for table in keys)
    mask = _mask(new, rows, axis_1, heads)
    prepend(draft, new.nodes)
    return Shared(keys=(keys[0], keys[1]), queries=(queries[0], queries[1]), mask=mask)


def _gathered(new: NodeList, table: ir.Value, rows: ir.Value, axis: ir.Value) -> ir.Value:
    return new.add("Unsqueeze", [new.add("Gather", [table, rows], {"axis": 0}), axis])


def _mask(new: NodeList, rows: ir.Value, axis: ir.Value, heads: Heads) -> ir.Value:
    """0 where a query may see a key, `MASKED` where not: not what the cache has from the chunk's first row on, and of
    the chunk nothing later than the query's own row.
    """
    boolean = ir.DataType.BOOL
    columns, never = new.constant("columns", np.arange(heads.capacity)), new.constant("never", np.int64(_NEVER))
    first = new.add("Gather", [rows, new.constant("row_0", np.array([0]))], {"axis": 0})
    cached = new.add("Where", [new.add("Less", [columns, first], dtype=boolean), columns, never], dtype=rows.dtype)
    seen_at = new.joined([cached, rows], 0)
    each = new.constant("each_query", np.array([1, heads.shared]))
    queries = new.reshaped(new.add("Expand", [new.add("Unsqueeze", [rows, axis]), each]), "column", [-1, 1])
    visible = new.add("LessOrEqual", [seen_at, queries], dtype=boolean)
    seen, unseen = new.constant("seen", np.float32(0)), new.constant("unseen", np.float32(MASKED))
    return new.add("Where", [visible, seen, unseen], dtype=ir.DataType.FLOAT)


def _rewrite(draft: GraphDraft, node: ir.Node, heads: Heads, shared: Shared) -> None:
    qkv, cached_keys, cached_values, *_ = node.inputs
    assert cached_keys is not None
    assert cached_values is not None
    new = NodeList(draft)
    split = new.constant("qkv_widths", np.array(heads.widths))
    query_rows, key_rows, value_rows = new.several("Split", [qkv, split], {"axis": 2}, outputs=3)
    queries = _rotated(new, query_rows, heads.queries, heads, shared.queries)
    keys = _new_rows(new, _rotated(new, key_rows, heads.keys, heads, shared.keys), heads)
    values = _new_rows(new, value_rows, heads)

    by_keys = new.reshaped(queries, "queries_by_keys", [-1, heads.keys, heads.shared, heads.size])
    columns = new.reshaped(new.ordered(by_keys, 1, 3, 0, 2), "query_columns", [1, heads.keys, heads.size, -1])
    scores = new.joined([new.add("MatMul", [part, columns]) for part in (cached_keys, keys)], 2)
    weights = new.softmax(new.ordered(scores, 0, 1, 3, 2), shared.mask)
    of_cache, of_chunk = _cut(new, weights, [0, heads.capacity, _NEVER])
    parts = [new.add("MatMul", pair) for pair in ((of_cache, cached_values), (of_chunk, values))]
    attended = new.reshaped(new.add("Add", parts), "attended", [heads.keys, -1, heads.shared, heads.size])
    rows = new.reshaped(new.ordered(attended, 1, 0, 2, 3), "rows", [1, -1, heads.widths[0]])
    replace(draft, [node], new.nodes, node.outputs, [rows, keys, values])


def _rotated(new: NodeList, rows: ir.Value, count: int, heads: Heads, tables: tuple[ir.Value, ir.Value]) -> ir.Value:
    """[1, t, count * D] -> [t, count, D], element i turned against element i + D / 2."""
    apart = new.reshaped(rows, f"{count}_heads", [-1, count, heads.size])
    halves = new.constant("halves", np.array([heads.size // 2] * 2))
    first, second = new.several("Split", [apart, halves], {"axis": 2}, outputs=2)
    cos, sin = tables
    lower = new.add("Sub", [new.add("Mul", [first, cos]), new.add("Mul", [second, sin])])
    upper = new.add("Add", [new.add("Mul", [second, cos]), new.add("Mul", [first, sin])])
    return new.joined([lower, upper], 2)


def _new_rows(new: NodeList, rows: ir.Value, heads: Heads) -> ir.Value:
    """[t, keys * D], in whatever shape -> [1, keys, t, D]."""
    return new.ordered(new.reshaped(rows, "key_rows", [1, -1, heads.keys, heads.size]), 0, 2, 1, 3)


def _cut(new: NodeList, value: ir.Value, bounds: Sequence[int]) -> list[ir.Value]:
    """The parts of `value` between `bounds` along its last axis of four."""
    limits = [new.constant(f"bound_{bound}", np.array([bound])) for bound in bounds]
    axis = new.constant("axis_3", np.array([3]))
    return [new.add("Slice", [value, start, end, axis]) for start, end in pairwise(limits)]
