"""Every weight of the exporter's graph held against the bundle, to the last bit, a few rows at a time.

It unpacked codes, shifted them, put them into an order of its own and packed them again. Undone, they must be the codes
of the bundle; scales the same float16 numbers; norms, head and embeddings what float16 makes of the bundle's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiedge.bundle import Bundle
from phiedge.bundle.graph_file import GraphFile, Weight, read_graph
from phiedge.engines.edge_llm.fragments import unpack_codes
from phiedge.errors import ToolOutputError
from phiedge.exporters.checkpoints.plain_tensors import HEAD, embedding_table, head
from phiedge.exporters.checkpoints.stored import NUMPY_TYPES, StoredWeights
from phiedge.exporters.checkpoints.tensor_file import TensorOut
from phiedge.exporters.checkpoints.text_model import LAYER, decoder_weights, parts_of_layer
from phiedge.exporters.safetensors_file import Dtype, SafetensorsFile
from phiedge.exporters.values import StoredRows
from phiedge.progress import Progress, silent

EMBEDDINGS, EMBEDDING = "embedding.safetensors", "embedding"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphWeights:
    """The weights of a graph at `path` that lie in files beside it."""

    path: Path
    graph: GraphFile
    by_name: dict[str, Weight]

    @staticmethod
    def of(path: Path) -> "GraphWeights":
        graph = read_graph(path)
        return GraphWeights(path=path, graph=graph, by_name={weight.name: weight for weight in graph.weights})

    def values(self, name: str) -> NDArray[Any]:
        """A weight, mapped."""
        weight = self.by_name[name]
        kind = np.dtype("i1") if weight.dtype == "int8" else np.dtype(NUMPY_TYPES[weight.dtype])
        assert weight.file is not None, f"{name} lies beside the graph"
        return np.memmap(self.path.parent / weight.file, kind, "r", weight.offset, weight.shape)

    def named(self, ending: str) -> str:
        """The only weight whose name ends so."""
        (name,) = (name for name in self.by_name if name.endswith(ending))
        return name


def check_weights(bundle: Bundle, path: Path, *, layers: int, progress: Progress = silent) -> int:
    """How many weights were compared. Raises `ToolOutputError` naming the first that is not the bundle's."""
    facts = bundle.manifest.facts
    ours, theirs = decoder_weights(bundle), GraphWeights.of(path)
    compared = 0
    with progress.task("compare weights", layers + 2, "parts") as advance:
        for layer in range(layers):
            for part in parts_of_layer(facts, layer):
                found = ours.grouped(part.stored)
                assert found is not None, "the checkpoint was written from groups"
                wanted = ours.read_grouped(found, part.rows)
                codes = unpack_codes(theirs.values(theirs.named(f"{part.name}.qweight")), part.count, found.k)
                _require_same(path, f"{part.name}.qweight", codes, wanted.codes)
                scales = theirs.values(theirs.named(f"{part.name}.scales"))
                _require_same(path, f"{part.name}.scales", scales, wanted.scales.T.astype(np.float16))
                compared += 2
            advance(1)
        compared += _check_norms(path, ours, theirs, layers)
        advance(1)
        _check_rows(path, theirs.values(theirs.named(HEAD)), head(ours))
        _check_rows(path.with_name(EMBEDDINGS), _embeddings(path.with_name(EMBEDDINGS)), embedding_table(bundle))
        advance(1)
    return compared + 2


def _check_norms(path: Path, ours: StoredWeights, theirs: GraphWeights, layers: int) -> int:
    """Norms keep neither their names nor, where two are equal, their number; their order is that of the graph."""
    names = [f"{LAYER.format(layer)}{norm}.weight" for layer in range(layers) for norm in _NORMS] + [
        "model.norm.weight"
    ]
    factors = [
        name
        for node in theirs.graph.nodes
        if node.op_type == "Mul"
        for name in node.inputs
        if name in theirs.by_name and len(theirs.by_name[name].shape) == 1
    ]
    if len(factors) != len(names):
        raise _wrong(path, f"has {len(factors)} norms, the model has {len(names)}")
    for name, factor in zip(names, factors, strict=True):
        _require_same(path, name, theirs.values(factor), ours.read_plain(name).astype(np.float16))
    return len(names)


_NORMS = ("input_layernorm", "post_attention_layernorm")


def _check_rows(path: Path, found: NDArray[Any], wanted: TensorOut) -> None:
    start = 0
    if found.shape != wanted.shape:
        raise _wrong(path, f"has {wanted.name} of shape {list(found.shape)}, the model needs {list(wanted.shape)}")
    for part in wanted.parts():
        rows = _as_float16(part, wanted)
        _require_same(path, wanted.name, found[start : start + len(rows)], rows)
        start += len(rows)


def _as_float16(values: NDArray[Any], tensor: TensorOut) -> NDArray[np.float16]:
    if values.dtype == np.float16:
        return values
    kind: Dtype = "bfloat16" if values.dtype.kind == "u" else "float32"
    stored = StoredRows(name=tensor.name, dtype=kind, first_row=0, values=values.reshape(-1, tensor.shape[1]))
    return stored.float32().astype(np.float16)


def _embeddings(path: Path) -> NDArray[Any]:
    file = SafetensorsFile(path)
    try:
        return file.read(EMBEDDING)
    finally:
        file.close()


def _require_same(path: Path, name: str, found: NDArray[Any], wanted: NDArray[Any]) -> None:
    if found.shape != wanted.shape or not np.array_equal(found, wanted):
        wrong = int((found != wanted).sum()) if found.shape == wanted.shape else "all"
        raise _wrong(path, f"has {name} with {wrong} of {wanted.size} values that are not the bundle's")


def _wrong(path: Path, told: str) -> ToolOutputError:
    return ToolOutputError(f"{path} {told}", remedy="do not use it; run the build again, and report this if it stays")
