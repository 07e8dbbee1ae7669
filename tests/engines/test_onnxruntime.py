import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phiedge.bundle import Bundle, ModelFacts
from phiedge.engines.onnxruntime import OrtDecoder, OrtVision, RunStoppedError
from phiedge.errors import BundleError, SessionError, UsageError


@pytest.fixture
def facts(oracle_bundle: Bundle) -> ModelFacts:
    return oracle_bundle.manifest.facts


@pytest.fixture
def decoder(oracle_bundle: Bundle, facts: ModelFacts) -> OrtDecoder:
    decoder = OrtDecoder(oracle_bundle.file("decoder.ort.onnx"), facts, threads=1)
    decoder.bind(cache(facts, 64))
    return decoder


def cache(facts: ModelFacts, capacity: int) -> list[tuple[np.ndarray, np.ndarray]]:
    shape = (1, facts.num_kv_heads, capacity, facts.head_dim)
    return [(np.zeros(shape, np.float32), np.zeros(shape, np.float32)) for _ in range(facts.num_layers)]


def embeddings(facts: ModelFacts, count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, facts.hidden_size)).astype(np.float32)


def test_steps_and_chunks_give_the_same_logits(decoder: OrtDecoder, facts: ModelFacts) -> None:
    rows = embeddings(facts, 6)
    whole = decoder.prefill(rows, past=0).copy()
    decoder.prefill(rows[:3], past=0)
    for past in (3, 4, 5):
        decoder.row[:] = rows[past]
        stepped = decoder.step(past=past)
    np.testing.assert_allclose(stepped, whole, rtol=0, atol=1e-5)


def test_logits_are_the_same_memory_every_time(decoder: OrtDecoder, facts: ModelFacts) -> None:
    first = decoder.prefill(embeddings(facts, 2), past=0)
    assert decoder.step(past=2).ctypes.data == first.ctypes.data


def test_features_are_written_into_the_callers_array(oracle_bundle: Bundle, facts: ModelFacts) -> None:
    vision = OrtVision(oracle_bundle.file("vision.ort.onnx"), facts, threads=1)
    for count in (1, 6, 256):
        out = np.full((count, facts.hidden_size), np.nan, np.float32)
        patches = np.zeros((count, 768), np.float32)
        vision.encode(patches, np.ones((count, facts.vision_hidden_size), np.float32), out)
        assert np.isfinite(out).all()


def test_a_stopped_engine_refuses_until_it_is_armed_again(decoder: OrtDecoder, facts: ModelFacts) -> None:
    rows = embeddings(facts, 5)
    expected = decoder.prefill(rows, past=0).copy()
    stopper = threading.Thread(target=decoder.stop)
    stopper.start()
    stopper.join()
    for _ in range(2):
        with pytest.raises(RunStoppedError):
            decoder.prefill(rows, past=0)
    decoder.rearm()
    assert np.array_equal(decoder.prefill(rows, past=0), expected)


def test_a_run_that_fails_is_a_session_error_and_the_engine_goes_on(decoder: OrtDecoder, facts: ModelFacts) -> None:
    with pytest.raises(SessionError, match="decoder.ort.onnx failed"):
        decoder.prefill(embeddings(facts, 65), past=0)  # the cache has 64 positions
    assert np.isfinite(decoder.prefill(embeddings(facts, 4), past=0)).all()


def test_a_cache_that_is_not_written_in_place_is_noticed(decoder: OrtDecoder, facts: ModelFacts) -> None:
    decoder._addresses[1] += 64
    with pytest.raises(SessionError, match="did not write the cache in place"):
        decoder.prefill(embeddings(facts, 2), past=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": 2}, r"graph has inputs \['past\.2\.key'.*\], the model's facts need inputs 7 of them"),
        ({"num_layers": 4}, r"graph has inputs 9 of them, the model's facts need inputs \['past\.3\.key'"),
        ({"hidden_size": 256}, r"inputs_embeds \[1, '\w+', 128\], .* inputs_embeds \[1, None, 256\]"),
        ({"head_dim": 32}, r"past\.0\.key .* 16\], .* 32\]"),
        ({"vocab_size": 600}, r"logits \[1, 1, 512\], .* logits \[1, 1, 600\]"),
    ],
)
def test_a_decoder_that_is_not_the_manifests_is_refused_naming_both_sides(
    oracle_bundle: Bundle, facts: ModelFacts, change: dict, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        OrtDecoder(oracle_bundle.file("decoder.ort.onnx"), replace(facts, **change), threads=1)


def test_the_graphs_cannot_stand_in_for_each_other(oracle_bundle: Bundle, facts: ModelFacts) -> None:
    with pytest.raises(BundleError, match=r"inputs_embeds.*patches"):
        OrtVision(oracle_bundle.file("decoder.ort.onnx"), facts, threads=1)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, facts: ModelFacts) -> None:
    path = tmp_path / "decoder.ort.onnx"
    path.write_bytes(b"this is no graph")
    with pytest.raises(BundleError, match="cannot open"):
        OrtDecoder(path, facts, threads=1)


def test_a_graph_without_its_weights_is_refused(oracle_bundle: Bundle, tmp_path: Path, facts: ModelFacts) -> None:
    shutil.copy(oracle_bundle.file("decoder.ort.onnx"), tmp_path)
    with pytest.raises(BundleError, match="cannot open"):
        OrtDecoder(tmp_path / "decoder.ort.onnx", facts, threads=1)


def test_no_threads_are_refused(oracle_bundle: Bundle, facts: ModelFacts) -> None:
    with pytest.raises(UsageError, match="threads must be from 1 to .*, not 0"):
        OrtDecoder(oracle_bundle.file("decoder.ort.onnx"), facts, threads=0)


def test_importing_it_writes_no_telemetry(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-B", "-c", "import phiedge.engines.onnxruntime"]
    subprocess.run(command, env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []


def test_a_damaged_graph_is_told_by_the_error_alone(
    oracle_bundle: Bundle, facts: ModelFacts, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = oracle_bundle.file("vision.ort.onnx").read_bytes()
    (tmp_path / "vision.ort.onnx").write_bytes(graph.replace(b"MatMul", b"MatMux"))
    with pytest.raises(BundleError, match="cannot open .*vision.ort.onnx"):
        OrtVision(tmp_path / "vision.ort.onnx", facts, threads=1)
    assert capfd.readouterr() == ("", "")
