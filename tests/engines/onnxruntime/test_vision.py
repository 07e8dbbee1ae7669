from pathlib import Path

import numpy as np
import pytest

from phiedge.bundle import Bundle, ModelFacts
from phiedge.engines.onnxruntime.vision import OrtVision
from phiedge.errors import BundleError


def test_features_are_written_into_the_callers_array(oracle_bundle: Bundle, facts: ModelFacts) -> None:
    vision = OrtVision(oracle_bundle.file("vision.ort.onnx"), facts, threads=1)
    for count in (1, 6, 256):
        out = np.full((count, facts.hidden_size), np.nan, np.float32)
        patches = np.zeros((count, 768), np.float32)
        vision.encode(patches, np.ones((count, facts.vision_hidden_size), np.float32), out)
        assert np.isfinite(out).all()


def test_the_graphs_cannot_stand_in_for_each_other(oracle_bundle: Bundle, facts: ModelFacts) -> None:
    with pytest.raises(BundleError, match=r"inputs_embeds.*patches"):
        OrtVision(oracle_bundle.file("decoder.ort.onnx"), facts, threads=1)


def test_a_damaged_graph_is_told_by_the_error_alone(
    oracle_bundle: Bundle, facts: ModelFacts, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = oracle_bundle.file("vision.ort.onnx").read_bytes()
    (tmp_path / "vision.ort.onnx").write_bytes(graph.replace(b"MatMul", b"MatMux"))
    with pytest.raises(BundleError, match="cannot open .*vision.ort.onnx"):
        OrtVision(tmp_path / "vision.ort.onnx", facts, threads=1)
    assert capfd.readouterr() == ("", "")
