"""What the parser of TensorRT 10.1 takes, held against the graphs of the conservative dialect, which 10.3 is to read.

The table of operators and types is that of onnx-tensorrt's branch 10.1-GA (docs/operators.md), the nearest below 10.3
that was at hand; the rules are from the same branch (onnxOpImporters.cpp, WeightsContext.cpp). Its list of changes
names nothing for 10.2 and 10.3 that would take away from them.
"""

import json
from functools import cache
from pathlib import Path

import onnx
import pytest

from phiedge.bundle import BundleWriter
from phiedge.calibration.int4 import RoundToNearest
from phiedge.exporters.checkpoint import open_checkpoint
from phiedge.exporters.dialects.tensorrt import CONSERVATIVE
from phiedge.exporters.graphs import write_graphs
from phiedge.exporters.precision import PLANS, for_tensorrt

TABLE = Path(__file__).parents[1] / "engines" / "tensorrt" / "surfaces" / "onnx-parser-10.1.json"
ORACLE = Path(__file__).parents[1] / "oracle" / "tiny"
TYPES = {"FLOAT": "FP32", "FLOAT16": "FP16", "INT64": "INT64", "BOOL": "BOOL", "INT4": "INT4", "INT8": "INT8"}
EXTERNAL_KEYS = {"location", "offset", "length", "checksum"}

Graphs = dict[str, onnx.GraphProto]


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    """Both graphs of the oracle's checkpoint at int4, without their weights."""
    directory = tmp_path_factory.mktemp("conservative") / "bundle"
    with BundleWriter(directory) as writer, open_checkpoint(ORACLE) as checkpoint:
        write_graphs(
            checkpoint,
            precision=for_tensorrt(PLANS["int4"]),
            dialects=(CONSERVATIVE.name,),
            max_context=512,
            out_dir=writer.path,
            quantiser=RoundToNearest(),
        )
        paths = {part: writer.path / f"{part}.{CONSERVATIVE.name}.onnx" for part in ("vision", "decoder")}
        return {part: onnx.load(path, load_external_data=False).graph for part, path in paths.items()}


@cache
def table() -> dict[str, list[str]]:
    read: dict[str, list[str]] = json.loads(TABLE.read_text())
    return read


def nodes(graphs: Graphs, operator: str) -> list[tuple[onnx.GraphProto, onnx.NodeProto]]:
    return [(graph, node) for graph in graphs.values() for node in graph.node if node.op_type == operator]


def constants(graph: onnx.GraphProto) -> dict[str, list[int]]:
    """Everything whose value is in the graph, with its shape."""
    found = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    found |= {node.output[0]: list(node.attribute[0].t.dims) for node in graph.node if node.op_type == "Constant"}
    return found


@pytest.mark.parametrize("part", ["vision", "decoder"])
def test_every_operator_is_in_the_parsers_table_with_its_types(part: str) -> None:
    operators = CONSERVATIVE.vision if part == "vision" else CONSERVATIVE.decoder
    for operator, kinds in operators.items():
        assert {TYPES[kind.name] for kind in kinds} <= set(table()[operator]), operator


def test_weights_say_no_more_of_their_place_than_the_parser_reads(graphs: Graphs) -> None:
    for graph in graphs.values():
        for tensor in graph.initializer:
            assert {entry.key for entry in tensor.external_data} <= EXTERNAL_KEYS


@pytest.mark.parametrize(("operator", "operand"), [("Squeeze", 1), ("Unsqueeze", 1), ("ReduceMean", 1), ("Slice", 3)])
def test_axes_are_constants(graphs: Graphs, operator: str, operand: int) -> None:
    for graph, node in nodes(graphs, operator):
        assert len(node.input) > operand
        assert node.input[operand] in constants(graph)


def test_no_shape_depends_on_what_is_in_an_input(graphs: Graphs) -> None:
    """TensorRT would have such an input on the host, and run part of the graph there before every step."""
    shapes = {"Slice": (1, 2), "Expand": (1,), "Reshape": (1,), "Split": (1,)}
    for graph in graphs.values():
        read = {port.name for port in graph.input}
        for node in graph.node:
            if read & set(node.input):
                read |= set(node.output)
        wrong = [
            node.name
            for node in graph.node
            for at in shapes.get(node.op_type, ())
            if read & set(node.input[at : at + 1])
        ]
        assert wrong == []


def test_the_block_of_an_int4_weight_can_be_told_from_its_scales(graphs: Graphs) -> None:
    found = nodes(graphs, "DequantizeLinear")
    assert found
    for graph, node in found:
        known = constants(graph)
        codes, scales = known[node.input[0]], known[node.input[1]]
        blocks = [side // parts for side, parts in zip(codes, scales, strict=True)]
        assert len(node.input) == 2
        assert sorted(blocks)[:-1] == [1] * (len(codes) - 1)
        assert codes[-1] % 2 == 0
