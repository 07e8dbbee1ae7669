"""The exporter's graph of a decoder held against what it has to be, without reading a weight.

Ports, operators and their attributes, and the shape of every quantised weight against the product that reads it: a
weight that was cut along the wrong axis has the wrong shape here, whatever the exporter said.
"""

import re
from collections import Counter
from pathlib import Path

from phiedge.bundle import ModelFacts
from phiedge.bundle.graph_file import GraphFile, GraphNode, Weight, read_graph
from phiedge.engines.edge_llm.fragments import stored_shape
from phiedge.engines.edge_llm.versions import DOMAIN, GROUP_SIZE, LINEARS, PACKAGE, VERSION, expected_graph
from phiedge.errors import BundleError, ToolOutputError

_LINEAR = re.compile(r"layers\.(\d+)\.\w+\.(\w+_proj)\.(?:qweight|scales)$")


def check_structure(path: Path, facts: ModelFacts, *, layers: int) -> None:
    """Raises `ToolOutputError` naming the first thing of the graph at `path` that is not as it has to be."""
    try:
        graph = read_graph(path)
    except (BundleError, OSError) as error:
        raise _wrong(path, f"cannot be read: {error}") from error
    expected = expected_graph(facts, layers=layers)
    _require_same(path, "operator sets", dict(graph.opsets), dict(expected.opsets))
    for found, wanted, kind in ((graph.inputs, expected.inputs, "input"), (graph.outputs, expected.outputs, "output")):
        _require_same(path, f"{kind}s", [port.name for port in found], [port.name for port in wanted])
        for port, other in zip(found, wanted, strict=True):
            _require_same(path, f"{kind} {port.name}", (port.dtype, port.shape), (other.dtype, other.shape))
    plugins = Counter(node.op_type for node in graph.nodes if node.domain == DOMAIN)
    _require_same(path, "operators", dict(plugins), dict(expected.plugins))
    for node in graph.nodes:
        if node.op_type == "AttentionPlugin":
            shown = {name: node.integers.get(name) for name in expected.attention}
            _require_same(path, f"attributes of {node.name}", shown, dict(expected.attention))
    _check_linears(path, graph, facts, layers)


def _check_linears(path: Path, graph: GraphFile, facts: ModelFacts, layers: int) -> None:
    weights = {weight.name: weight for weight in graph.weights}
    sizes = linear_sizes(facts)
    seen = set()
    for node in graph.nodes:
        if node.op_type == "Int4GroupwiseGemmPluginV2":
            layer, name = _place(path, node)
            seen.add((layer, name))
            _check_linear(path, node, weights, *sizes[name])
    _require_same(path, "linears", sorted(seen), sorted((layer, name) for layer in range(layers) for name in LINEARS))


def linear_sizes(facts: ModelFacts) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of each linear of a layer."""
    width, inner = facts.hidden_size, facts.intermediate_size
    heads, kv = facts.num_heads * facts.head_dim, facts.num_kv_heads * facts.head_dim
    sizes = ((heads, width), (kv, width), (kv, width), (width, heads), (inner, width), (inner, width), (width, inner))
    return dict(zip(LINEARS, sizes, strict=True))


def _check_linear(path: Path, node: GraphNode, weights: dict[str, Weight], n: int, k: int) -> None:
    _, codes, scales = node.inputs
    wanted = {"gemm_n": n, "gemm_k": k, "group_size": GROUP_SIZE}
    _require_same(path, f"attributes of {codes}", {name: node.integers.get(name) for name in wanted}, wanted)
    for name, dtype, shape in (
        (codes, "int8", stored_shape(n, k)),
        (scales, "float16", (k // GROUP_SIZE, n)),
    ):
        if name not in weights:
            raise _wrong(path, f"has no weight {name}")
        _require_same(path, name, (weights[name].dtype, weights[name].shape), (dtype, shape))


def _place(path: Path, node: GraphNode) -> tuple[int, str]:
    found = _LINEAR.search(node.inputs[1]) if len(node.inputs) == 3 else None
    if found is None:
        raise _wrong(path, f"has a product {node.name} whose weight has no name that tells its layer")
    return int(found[1]), found[2]


def _require_same(path: Path, what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise _wrong(path, f"has {what} {found}, the model needs {wanted}")


def _wrong(path: Path, told: str) -> ToolOutputError:
    return ToolOutputError(
        f"{path}, which {PACKAGE} reported as complete, {told}",
        remedy=f"use {PACKAGE} {VERSION} on the checkpoint that phiedge writes; if it is so, report this",
    )
