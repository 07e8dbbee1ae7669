import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phiedge.bundle import Bundle, ModelFacts
from phiedge.engines.interface import RunStoppedError
from phiedge.engines.onnxruntime.buffers import HostCache
from phiedge.engines.onnxruntime.decoder import OrtDecoder
from phiedge.errors import BundleError, SessionError, UsageError

CAPACITY = 64


@pytest.fixture
def decoder(oracle_bundle: Bundle, facts: ModelFacts) -> OrtDecoder:
    return OrtDecoder(oracle_bundle.file("decoder.ort.onnx"), facts, threads=1, capacity=CAPACITY)


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
        OrtDecoder(oracle_bundle.file("decoder.ort.onnx"), replace(facts, **change), threads=1, capacity=CAPACITY)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, facts: ModelFacts) -> None:
    path = tmp_path / "decoder.ort.onnx"
    path.write_bytes(b"this is no graph")
    with pytest.raises(BundleError, match="cannot open"):
        OrtDecoder(path, facts, threads=1, capacity=CAPACITY)


def test_a_graph_without_its_weights_is_refused(oracle_bundle: Bundle, tmp_path: Path, facts: ModelFacts) -> None:
    shutil.copy(oracle_bundle.file("decoder.ort.onnx"), tmp_path)
    with pytest.raises(BundleError, match="cannot open"):
        OrtDecoder(tmp_path / "decoder.ort.onnx", facts, threads=1, capacity=CAPACITY)


def test_no_threads_are_refused(oracle_bundle: Bundle, facts: ModelFacts) -> None:
    with pytest.raises(UsageError, match="threads must be from 1 to .*, not 0"):
        OrtDecoder(oracle_bundle.file("decoder.ort.onnx"), facts, threads=0, capacity=CAPACITY)


def test_the_cache_lies_in_one_aligned_allocation_of_the_asked_capacity(decoder: OrtDecoder, facts: ModelFacts) -> None:
    views = [view for pair in decoder._cache.layers() for view in pair]
    addresses = [view.ctypes.data for view in views]
    assert decoder.capacity == CAPACITY
    assert decoder.cache_bytes == sum(view.nbytes for view in views)
    assert addresses[0] % 64 == 0
    assert addresses == [addresses[0] + place * views[0].nbytes for place in range(2 * facts.num_layers)]
    for view in views:
        assert view.shape == (1, facts.num_kv_heads, CAPACITY, facts.head_dim)
        assert view.flags.c_contiguous


def test_a_cache_that_does_not_fit_is_refused_with_its_size() -> None:
    with pytest.raises(SessionError, match=r"100000000 positions needs 4096000\.00 GB") as caught:
        HostCache(layers=400, kv_heads=100, capacity=10**8, head_dim=128, dtype=np.float32)
    assert "max_context" in str(caught.value.remedy)
