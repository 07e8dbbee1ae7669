"""The graphs of a bundle by dialect: operators, inputs and outputs, and what memory their weights and caches take.

They are read whole and their weights not at all. Where a weight lies is held against the manifest.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from phiedge.bundle import Bundle, Dialect
from phiedge.bundle.graph_file import BITS, GraphFile, GraphNode, GraphValue, Weight, read_graph
from phiedge.errors import BundleError
from phiedge.pipeline.inspection.extents import Extent, covered_bytes

GRAPHS = ("vision", "decoder")
_CACHE = "past."


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCount:
    """How often an operator stands in a graph; `domain` is "" for ONNX's own."""

    op_type: str
    domain: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphReport:
    """One graph file; `weights_bytes` are those that it reads from the file beside it, each byte once."""

    file: str
    bytes: int
    ir_version: int
    opsets: Mapping[str, int]
    nodes: int
    operators: tuple[OperatorCount, ...]
    inputs: tuple[GraphValue, ...]
    outputs: tuple[GraphValue, ...]
    tensors: int
    weights_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DialectReport:
    """The two graphs for one family of engines; one that was not asked for is None.

    `cache_bytes` are keys and values of `max_context` positions. `capacity` is how many positions the caches have where
    the graph says so, and None where whoever opens it chooses.
    """

    name: str
    opset: int
    max_context: int
    activations: str
    weights_bytes: int
    cache_bytes: int
    capacity: int | None
    vision: GraphReport | None
    decoder: GraphReport | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DialectGraphs:
    """A dialect with its graphs as their files have them, by `GRAPHS`."""

    name: str
    dialect: Dialect
    graphs: Mapping[str, GraphFile]

    def file(self, graph: str) -> str:
        """The name of a graph's file."""
        return self.dialect.vision if graph == "vision" else self.dialect.decoder

    def extents(self) -> list[Extent]:
        """Where the weights of both graphs lie."""
        return [extent for graph in self.graphs.values() for extent in weight_extents(graph.weights)]


def read_dialects(bundle: Bundle) -> list[DialectGraphs]:
    """Read every graph of a bundle. Raises `BundleError` for one that is damaged, or reads what is not there."""
    found = []
    for name, dialect in bundle.manifest.dialects.items():
        graphs = {"vision": dialect.vision, "decoder": dialect.decoder}
        read = {part: _read(bundle, file) for part, file in graphs.items()}
        found.append(DialectGraphs(name=name, dialect=dialect, graphs=read))
    return found


def describe_dialect(bundle: Bundle, read: DialectGraphs) -> DialectReport:
    """What is said about a dialect."""
    dialect = read.dialect
    caches = [value for value in read.graphs["decoder"].inputs if value.name.startswith(_CACHE)]
    reports = {
        part: describe_graph(read.file(part), bundle.manifest.files[read.file(part)].bytes, graph)
        for part, graph in read.graphs.items()
    }
    return DialectReport(
        name=read.name,
        opset=dialect.opset,
        max_context=dialect.max_context,
        activations=dialect.activations,
        weights_bytes=covered_bytes(read.extents()),
        cache_bytes=sum(_bytes(cache, dialect.max_context) for cache in caches),
        capacity=None if any(isinstance(side, str) for side in _sides(caches)) else dialect.max_context,
        vision=reports["vision"],
        decoder=reports["decoder"],
    )


def describe_graph(file: str, size_bytes: int, graph: GraphFile) -> GraphReport:
    """What is said about a graph."""
    return GraphReport(
        file=file,
        bytes=size_bytes,
        ir_version=graph.ir_version,
        opsets=graph.opsets,
        nodes=len(graph.nodes),
        operators=count_operators(graph.nodes),
        inputs=graph.inputs,
        outputs=graph.outputs,
        tensors=len(graph.weights),
        weights_bytes=covered_bytes(weight_extents(graph.weights)),
    )


def count_operators(nodes: Iterable[GraphNode]) -> tuple[OperatorCount, ...]:
    """The operators, the most frequent first."""
    counts = Counter((node.op_type, node.domain) for node in nodes)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(OperatorCount(op_type=name, domain=domain, count=count) for (name, domain), count in ordered)


def weight_extents(weights: Iterable[Weight]) -> list[Extent]:
    """Where weights lie that are not in the graph itself."""
    return [
        Extent(file=weight.file, begin=weight.offset, end=weight.offset + weight.size_bytes)
        for weight in weights
        if weight.file is not None
    ]


def _read(bundle: Bundle, name: str) -> GraphFile:
    graph = read_graph(bundle.file(name))
    for extent in weight_extents(graph.weights):
        entry = bundle.manifest.files.get(extent.file)
        if entry is None or entry.bytes < extent.end:
            there = "is not in the bundle" if entry is None else f"has {entry.bytes}"
            raise BundleError(
                f"{bundle.path / name} reads bytes up to {extent.end} of {extent.file}, which {there}",
                remedy="copy or export the bundle again",
            )
    return graph


def _sides(values: Iterable[GraphValue]) -> list[int | str]:
    return [side for value in values for side in value.shape]


def _bytes(cache: GraphValue, capacity: int) -> int:
    """What a cache takes; its one side without a number is the capacity."""
    return prod(capacity if isinstance(side, str) else side for side in cache.shape) * BITS[cache.dtype] // 8
