"""Several dialects written together: the same weights, stored once, and the same model."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from ort_graphs import CachedDecoder, open_graph
from phiedge.calibration.int4 import RoundToNearest
from phiedge.exporters.checkpoint import Checkpoint
from phiedge.exporters.graphs import GraphFacts, write_graphs
from phiedge.exporters.precision import FP16, PrecisionPlan, choose_precision
from positioned_decoder import PositionedDecoder

CAPACITY = 128
DIALECTS = ("ort", "tensorrt", "tensorrt-10.3")
PLANS = {
    "a Jetson's": choose_precision("int4", sm=87, group_size=64).plan,
    "a desktop's": choose_precision("int4", sm=89, group_size=64).plan,
    "fp16": FP16,
}


def write(checkpoint: Checkpoint, plan: PrecisionPlan, directory: Path, dialects=DIALECTS) -> GraphFacts:
    directory.mkdir()
    return write_graphs(
        checkpoint,
        precision=plan,
        dialects=dialects,
        max_context=CAPACITY,
        out_dir=directory,
        quantiser=RoundToNearest(),
    )


@pytest.fixture(scope="module", params=PLANS)
def written(request, oracle_checkpoint, tmp_path_factory) -> tuple[PrecisionPlan, Path, GraphFacts]:
    plan = PLANS[request.param]
    directory = tmp_path_factory.mktemp("dialects") / "both"
    return plan, directory, write(oracle_checkpoint, plan, directory)


def places(graph: Path) -> dict[tuple[str, int], int]:
    """Where a graph's weights lie, file and offset, and their bytes there."""
    found = {}
    for value in onnx.load(graph, load_external_data=False).graph.initializer:
        outside = {entry.key: entry.value for entry in value.external_data}
        if outside:
            found[outside["location"], int(outside["offset"])] = int(outside["length"])
    return found


def test_weights_lie_in_one_file_of_each_part_and_once(written) -> None:
    plan, directory, facts = written
    assert list(facts.dialects) == list(DIALECTS)
    for part in ("vision", "decoder"):
        ort, tensorrt, conservative = (places(directory / f"{part}.{dialect}.onnx") for dialect in DIALECTS)
        assert {file for file, _ in (*ort, *tensorrt, *conservative)} == {f"{part}.data"}
        assert tensorrt == conservative
        assert set(ort.items()) & set(tensorrt.items())
        rotary = {place: size for place, size in ort.items() if place not in tensorrt}
        types = {dialect.activations for dialect in facts.dialects.values()}
        assert len(rotary) == (2 if part == "decoder" and len(types) == 2 else 0)
        together = ort | tensorrt
        assert sum(together.values()) <= (directory / f"{part}.data").stat().st_size < 1.02 * sum(together.values())
    assert plan.name == "fp16" or facts.dialects["tensorrt"].activations == "float16"


def test_further_dialects_cost_their_graphs_and_rotary_tables_only(written, oracle_checkpoint, tmp_path) -> None:
    plan, directory, _ = written
    write(oracle_checkpoint, plan, tmp_path / "one", dialects=("ort",))
    one, both = (sum(file.stat().st_size for file in path.glob("*.data")) for path in (tmp_path / "one", directory))
    head_dim = oracle_checkpoint.config.head_dim
    assert both - one <= 2 * CAPACITY * head_dim // 2 * 2 + 256


def test_all_dialects_are_the_same_model(written, oracle_arrays) -> None:
    _, directory, _ = written
    rows = oracle_arrays["text/inputs_embeds"][0][:60]
    peer = CachedDecoder(directory / "decoder.ort.onnx", capacity=CAPACITY)
    expected = peer.prefill(rows, chunk=20).copy()
    for dialect in DIALECTS[1:]:
        run = PositionedDecoder(directory / f"decoder.{dialect}.onnx")
        np.testing.assert_allclose(run.prefill(rows, chunk=20), expected, rtol=0, atol=2e-2)
    features = []
    for dialect in DIALECTS:
        session = open_graph(directory / f"vision.{dialect}.onnx")
        dtype = np.float16 if "float16" in session.get_inputs()[0].type else np.float32
        positions = oracle_arrays["img1/pos_embed_0"]
        feeds = {
            "patches": oracle_arrays["img1/pixel_values"][0][: len(positions)].astype(dtype),
            "pos_embed": positions.astype(dtype),
        }
        features.append(session.run(["features"], feeds)[0].astype(np.float32))
    for others in features[1:]:
        np.testing.assert_allclose(features[0], others, rtol=0, atol=1e-2)
