import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from phiedge.bundle import Bundle, ModelFacts
from phiedge.engines.interface import RunStoppedError
from phiedge.engines.onnxruntime.decoder import OrtDecoder
from phiedge.engines.openvino.decoder import OpenVinoDecoder
from phiedge.errors import BundleError, SessionError

CAPACITY = 64
GROUP_SIZE = 32


def opened(path: Path, facts: ModelFacts) -> OpenVinoDecoder:
    return OpenVinoDecoder(path, facts, group_size=GROUP_SIZE, threads=1, capacity=CAPACITY)


@pytest.fixture
def decoder(int4_bundle: Bundle, facts: ModelFacts) -> OpenVinoDecoder:
    return opened(int4_bundle.file("decoder.ort.onnx"), facts)


@pytest.fixture
def peer(int4_bundle: Bundle, facts: ModelFacts) -> OrtDecoder:
    return OrtDecoder(int4_bundle.file("decoder.ort.onnx"), facts, threads=1, capacity=CAPACITY)


def embeddings(facts: ModelFacts, count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, facts.hidden_size)).astype(np.float32)


def difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest, beside the largest logit; as goldens are compared."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def test_chunks_and_steps_give_what_onnx_runtime_gives(decoder, peer, facts) -> None:
    rows = embeddings(facts, 20)
    assert difference(decoder.prefill(rows[:9], past=0), peer.prefill(rows[:9], past=0)) < 0.02
    assert difference(decoder.prefill(rows[9:17], past=9), peer.prefill(rows[9:17], past=9)) < 0.02
    for past in (17, 18, 19):
        decoder.row[:] = peer.row[:] = rows[past]
        assert difference(decoder.step(past=past), peer.step(past=past)) < 0.02


def test_going_back_gives_the_same_logits_again(decoder, facts) -> None:
    rows = embeddings(facts, 12)
    decoder.prefill(rows[:8], past=0)
    first = []
    for past in (8, 9):
        decoder.row[:] = rows[past]
        first.append(decoder.step(past=past).copy())
    decoder.prefill(rows[3:], past=10)
    for past, wanted in zip((8, 9), first, strict=True):
        decoder.row[:] = rows[past]
        assert np.array_equal(decoder.step(past=past), wanted)


def test_a_prompt_after_another_is_not_touched_by_it(decoder, facts) -> None:
    rows = embeddings(facts, 16)
    wanted = decoder.prefill(rows[:5], past=0).copy()
    decoder.prefill(rows[5:], past=5)
    assert np.array_equal(decoder.prefill(rows[:5], past=0), wanted)


def test_a_stopped_engine_refuses_until_it_is_armed_again(decoder, facts) -> None:
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


def test_what_was_committed_before_a_stop_is_still_there(int4_bundle: Bundle, facts: ModelFacts) -> None:
    decoder = OpenVinoDecoder(
        int4_bundle.file("decoder.ort.onnx"), facts, group_size=GROUP_SIZE, threads=1, capacity=1024
    )
    rows = embeddings(facts, 1024)
    decoder.prefill(rows[:8], past=0)
    decoder.row[:] = rows[8]
    wanted = decoder.step(past=8).copy()
    runs, stopping = 0, decoder._request.infer

    class Stopping:
        """The request, stopped by another thread while it computes for the second time."""

        def __getattr__(self, name: str) -> object:
            return getattr(request, name)

        def infer(self) -> None:
            nonlocal runs
            runs += 1
            stopper = threading.Thread(target=decoder.stop) if runs == 2 else threading.Thread()
            stopper.start()
            stopping()
            stopper.join()

    request, decoder._request = decoder._request, Stopping()
    with pytest.raises(RunStoppedError):
        decoder.prefill(rows[8:], past=8)
    assert runs == 2, "nothing runs after the stop"
    decoder.rearm()
    decoder.row[:] = rows[8]
    assert np.array_equal(decoder.step(past=8), wanted)


def test_attention_norms_and_rotation_are_the_fused_ones(decoder, facts) -> None:
    model = decoder._request.get_compiled_model().get_runtime_model()
    kinds = Counter(node.get_rt_info()["layerType"].astype(str) for node in model.get_ops())
    layers = facts.num_layers
    assert kinds["PagedAttention"] == layers
    assert kinds["RoPE"] == 2 * layers
    assert kinds["RMS"] >= 2 * layers
    assert kinds["FullyConnected"] == 7 * layers + 1
    assert kinds["Softmax"] == kinds["MatMul"] == 0


def test_weights_are_read_as_the_bundle_stores_them(decoder) -> None:
    model = decoder._request.get_compiled_model().get_runtime_model()
    types = Counter(
        node.input_value(1).get_element_type().get_type_name()
        for node in model.get_ops()
        if node.get_rt_info()["layerType"].astype(str) == "FullyConnected"
    )
    assert types == {"u4": len(types) and types.total() - 1, "u8": 1}


def test_weights_are_packed_when_it_is_opened_and_not_when_the_first_answer_is_due(decoder) -> None:
    assert decoder.run_ns > 0


def test_a_run_that_fails_is_a_session_error(decoder, facts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phiedge.engines.openvino.decoder.EMBEDDINGS", "no such input")
    with pytest.raises(SessionError, match="decoder.ort.onnx failed on OpenVINO") as caught:
        decoder.prefill(embeddings(facts, 3), past=0)
    assert "--backend onnxruntime" in str(caught.value.remedy)


def test_a_decoder_without_integers_is_refused(oracle_bundle: Bundle, facts: ModelFacts) -> None:
    with pytest.raises(BundleError, match="has no weight") as caught:
        opened(oracle_bundle.file("decoder.ort.onnx"), facts)
    assert "--backend onnxruntime" in str(caught.value.remedy)


def test_its_sizes_are_told(decoder, facts) -> None:
    assert decoder.capacity == CAPACITY
    assert decoder.cache_bytes == 4 * 2 * facts.num_layers * facts.num_kv_heads * facts.head_dim * CAPACITY
    assert decoder.row.shape == (facts.hidden_size,)
    assert decoder.row.dtype == decoder.input_dtype == np.float32
