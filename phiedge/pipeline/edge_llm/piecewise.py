"""A graph run on the CPU by ONNX's reference evaluator, a piece at a time, so that its weights are never all in memory.

The evaluator takes models with their weights; a decoder's 8 GB would have to be there at once, and once more unpacked.
So the nodes are run in runs whose weights are at most `PIECE_BYTES`, each as a small model of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import external_data_helper, helper
from onnx.reference import ReferenceEvaluator

from phiedge.pipeline.edge_llm.reference_operators import OPERATORS
from phiedge.progress import Progress, silent

PIECE_BYTES = 256 << 20
_PIECE_NODES = 64
Array = NDArray[Any]


def run_graph(
    path: Path, inputs: Mapping[str, Array], outputs: Sequence[str], progress: Progress = silent
) -> dict[str, Array]:
    """The values `outputs` of the graph at `path`, whose weights lie beside it."""
    model = onnx.load(path, load_external_data=False)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    live: dict[str, Array] = dict(inputs)
    pieces = list(_pieces(model.graph.node, weights))
    last_reader = _last_readers(pieces, outputs)
    with progress.task(f"evaluate {path.parent.name}", len(pieces), "pieces") as advance:
        for number, nodes in enumerate(pieces):
            live |= _run_piece(model, nodes, weights, live, path.parent)
            live = {name: value for name, value in live.items() if last_reader.get(name, -1) > number}
            advance(1)
    return {name: live[name] for name in outputs}


def _pieces(nodes: Sequence[onnx.NodeProto], weights: Mapping[str, onnx.TensorProto]) -> Iterator[list[onnx.NodeProto]]:
    piece: list[onnx.NodeProto] = []
    held: set[str] = set()
    held_bytes = 0
    for node in nodes:
        new = {name for name in node.input if name in weights} - held
        new_bytes = sum(_size_bytes(weights[name]) for name in new)
        if piece and (held_bytes + new_bytes > PIECE_BYTES or len(piece) >= _PIECE_NODES):
            yield piece
            piece, held, held_bytes = [], set(), 0
        piece.append(node)
        held |= new
        held_bytes += new_bytes
    yield piece


def _run_piece(
    model: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    weights: Mapping[str, onnx.TensorProto],
    live: Mapping[str, Array],
    directory: Path,
) -> dict[str, Array]:
    made = [name for node in nodes for name in node.output if name]
    read = {name for node in nodes for name in node.input if name}
    given = sorted((read & live.keys()) - set(made))
    graph = helper.make_graph(
        nodes,
        "piece",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(live[name].dtype), None)
            for name in given
        ],
        [helper.make_empty_tensor_value_info(name) for name in made],
        [_loaded(weights[name], directory) for name in sorted(read & weights.keys())],
    )
    piece = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    evaluator = ReferenceEvaluator(piece, new_ops=OPERATORS)
    values = evaluator.run(made, {name: live[name] for name in given})
    return dict(zip(made, values, strict=True))


def _loaded(tensor: onnx.TensorProto, directory: Path) -> onnx.TensorProto:
    """A copy of a weight with its values."""
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    if external_data_helper.uses_external_data(copy):
        external_data_helper.load_external_data_for_tensor(copy, str(directory))
        copy.ClearField("external_data")
        copy.data_location = onnx.TensorProto.DEFAULT
    return copy


def _last_readers(pieces: Sequence[Sequence[onnx.NodeProto]], outputs: Sequence[str]) -> dict[str, int]:
    last = {name: number for number, nodes in enumerate(pieces) for node in nodes for name in node.input}
    return last | dict.fromkeys(outputs, len(pieces))


def _size_bytes(tensor: onnx.TensorProto) -> int:
    length = [int(entry.value) for entry in tensor.external_data if entry.key == "length"]
    return length[0] if length else len(tensor.raw_data)
