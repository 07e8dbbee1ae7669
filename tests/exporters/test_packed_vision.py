"""The packed vision graph on the reference evaluator: its positions exactly, its features against the publisher's."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from phiedge.bundle import ModelFacts
from phiedge.calibration.int4 import RoundToNearest
from phiedge.errors import BundleError
from phiedge.exporters.dialects.tensorrt import FORMS, to_tensorrt_vision
from phiedge.exporters.graphs import draft_vision, save_graph
from phiedge.exporters.node_names import name_nodes
from phiedge.exporters.packed_vision import contract, write_packed_vision
from phiedge.exporters.packed_vision.positions import PositionGraph
from phiedge.exporters.precision import FP16, for_tensorrt
from phiedge.exporters.tables import positions as positions_of
from phiedge.exporters.weight_stream import write_weights
from phiedge.exporters.weights import DataFile
from phiedge.pipeline.edge_llm.taps import Placement, sample_taps
from phiedge.pipeline.edge_llm.vision_check import TOLERANCE, encode_packed, packed_inputs
from phiedge.runtime.positions import PositionTable
from phiedge.runtime.preprocess import Grid

SIDE, CHANNELS = 16, 24
RECORDED = Path(__file__).parents[1] / "engines" / "edge_llm" / "recorded"


def grid(rows: int, columns: int) -> Grid:
    return Grid(rows=rows, columns=columns)


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((SIDE**2, CHANNELS)).astype(np.float32)


@pytest.fixture(scope="module")
def positions(table: np.ndarray) -> ReferenceEvaluator:
    """The positions' part of the graph alone, in float32 to its end."""
    indices = ir.Value(name="indices", shape=ir.Shape((4, "n")), type=ir.TensorType(ir.DataType.INT64))
    weights = ir.Value(name="weights", shape=ir.Shape((4, "n")), type=ir.TensorType(ir.DataType.FLOAT16))
    bounds = ir.Value(name="bounds", shape=ir.Shape(("b",)), type=ir.TensorType(ir.DataType.INT32))
    part = PositionGraph(table, side=SIDE)
    product = part.embed(indices, weights, bounds).producer().inputs[0]
    product.name, product.type = "embedded", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [indices, weights, bounds],
        [product],
        nodes=part.nodes,
        initializers=part.initializers,
        opset_imports={"": contract.OPSET},
    )
    return ReferenceEvaluator(ir.to_proto(ir.Model(graph, ir_version=10)))


def embed(positions: ReferenceEvaluator, grids: Sequence[Grid], placement: Placement) -> np.ndarray:
    indices, weights = sample_taps(grids, side=SIDE, placement=placement)
    bounds = np.cumsum([0, *(one.tokens for one in grids)]).astype(np.int32)
    return positions.run(None, {"indices": indices, "weights": weights, "bounds": bounds})[0]


@pytest.mark.parametrize("placement", ["centres", "corners"])
@pytest.mark.parametrize(
    "grids",
    [
        [(16, 16)],
        [(45, 80)],
        [(10, 26), (1, 1), (20, 32)],
        [(8, 40), (33, 21), (12, 22)],
        [(1, 200), (200, 1), (2, 2), (1, 2), (2, 1), (60, 60)],
    ],
)
def test_positions_are_those_of_the_runtime_for_every_grid_in_a_call(
    positions: ReferenceEvaluator, table: np.ndarray, grids: list[tuple[int, int]], placement: Placement
) -> None:
    asked = [grid(*one) for one in grids]
    ours = PositionTable(table, side=SIDE)
    wanted = np.concatenate([ours.embed(one) for one in asked])
    np.testing.assert_allclose(embed(positions, asked, placement), wanted, rtol=0, atol=1e-5)


def test_rows_that_belong_to_no_picture_are_finite(positions: ReferenceEvaluator) -> None:
    indices, weights = sample_taps([grid(3, 4), grid(2, 2)], side=SIDE, placement="centres")
    bounds = np.array([0, 12], dtype=np.int32)
    found = positions.run(None, {"indices": indices, "weights": weights, "bounds": bounds})[0]
    assert np.isfinite(found).all()


@pytest.fixture(scope="module")
def oracle_graph(oracle_checkpoint, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelFacts]:
    """The oracle's vision graph, packed."""
    path = tmp_path_factory.mktemp("packed")
    plan = for_tensorrt(FP16)
    draft = draft_vision(oracle_checkpoint.config, plan)
    to_tensorrt_vision(draft, plan, form=FORMS["tensorrt"])
    name_nodes(draft.graph)
    _, table_fill = positions_of(oracle_checkpoint)
    ranks = {name: rank for rank, name in enumerate(oracle_checkpoint.names())}
    files = [
        DataFile.lay_out("vision.data", list(draft.fills.values()), ranks),
        DataFile.lay_out("table", [table_fill], ranks),
    ]
    write_weights(files, oracle_checkpoint, RoundToNearest(), path)
    save_graph(draft, path / "vision.onnx", files[0].offsets)
    facts = oracle_checkpoint.config.facts()
    table = np.fromfile(path / "table", np.float32).reshape(facts.position_grid**2, facts.vision_hidden_size)
    (path / "visual").mkdir()
    write_packed_vision(path / "vision.onnx", table, facts, path / "visual" / "model.onnx")
    return path / "visual" / "model.onnx", facts


def test_features_of_five_pictures_packed_are_the_publishers(oracle_graph, oracle_arrays, oracle_cases) -> None:
    path, facts = oracle_graph
    calls = ([("img1", 0), ("img1_think", 0), ("img1_nothink", 0)], [("img2", 0), ("img2", 1)])
    for call in calls:
        shapes = [oracle_arrays[f"{case}/spatial_shapes"][index] for case, index in call]
        grids = [grid(int(rows), int(columns)) for rows, columns in shapes]
        patches = [
            oracle_arrays[f"{case}/pixel_values"][index][: one.tokens]
            for (case, index), one in zip(call, grids, strict=True)
        ]
        inputs = packed_inputs(patches, grids, side=SIDE, patch_size=facts.patch_size, placement="centres")
        parts = np.split(encode_packed(path, inputs), inputs[contract.BOUNDS][1:-1])
        for (case, index), found in zip(call, parts, strict=True):
            wanted = oracle_arrays[f"{case}/projected_{index}"]
            apart = np.abs(found - wanted)
            assert np.linalg.norm(apart) <= TOLERANCE * np.linalg.norm(wanted)
            assert apart.max() <= 2 * TOLERANCE * np.abs(wanted).max()  # float16 weights, too


def test_inputs_and_attention_are_as_edge_llms_own_exporter_writes_them(oracle_graph) -> None:
    ours, theirs = (
        onnx.load(oracle_graph[0], load_external_data=False),
        onnx.ModelProto.FromString(gzip.decompress((RECORDED / "cosmos_visual.onnx.gz").read_bytes())),
    )
    assert {one.domain: one.version for one in ours.opset_import} == {
        one.domain: one.version for one in theirs.opset_import
    }
    for kind in ("input", "output"):
        found, wanted = ({one.name: one.type.tensor_type for one in getattr(m.graph, kind)} for m in (ours, theirs))
        assert {name: (port.elem_type, len(port.shape.dim)) for name, port in found.items()} == {
            name: (port.elem_type, len(port.shape.dim)) for name, port in wanted.items()
        }
    plugin, other = (
        next(node for node in model.graph.node if node.op_type == contract.ATTENTION) for model in (ours, theirs)
    )
    assert (plugin.domain, len(plugin.input), plugin.input[3:]) == (other.domain, len(other.input), other.input[3:])
    assert {one.name: one.type for one in plugin.attribute} == {one.name: one.type for one in other.attribute}


def test_a_graph_of_another_dialect_is_refused(tmp_path: Path, oracle_graph) -> None:
    path, facts = oracle_graph
    with pytest.raises(BundleError, match="is no vision graph in float16 for TensorRT"):
        write_packed_vision(path, np.zeros((256, 72), dtype=np.float32), facts, tmp_path / "model.onnx")
