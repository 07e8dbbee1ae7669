"""The state machine of the decoder over a GPU of host memory and a TensorRT that runs the real graphs."""

import gc
import math
import threading
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from opened_engines import CHUNK, CONTEXT, Opened
from phiedge.bundle import Bundle, ModelFacts
from phiedge.engines.interface import RunStoppedError
from phiedge.engines.onnxruntime.decoder import OrtDecoder
from phiedge.errors import SessionError
from positioned_decoder import PositionedDecoder
from recorded_device import Call
from tensorrt_runtime import library
from tensorrt_surfaces import JETPACK_6, JETPACK_7, RTX

BOTH_KINDS = pytest.mark.parametrize("release", [RTX, JETPACK_6, JETPACK_7])  # of caches, and both ways to record
WithEngines = Callable[..., Bundle]


@pytest.fixture
def opened(with_engines: WithEngines) -> Opened:
    return Opened(with_engines(), library())


def embeddings(opened: Opened, count: int, seed: int = 0) -> np.ndarray:
    size = (count, opened.bundle.manifest.facts.hidden_size)
    return np.random.default_rng(seed).normal(size=size).astype(np.float16)


def by_hand(opened: Opened) -> PositionedDecoder:
    """The same graph, run as the engine should run it."""
    dialect = opened.library.capabilities.dialect
    return PositionedDecoder(opened.bundle.file(opened.bundle.manifest.dialects[dialect].decoder), padding=0)


def step(opened: Opened, row: np.ndarray, past: int) -> np.ndarray:
    opened.engines.decoder.row[:] = row
    return opened.engines.decoder.step(past=past)


def since(opened: Opened, mark: int) -> list[Call]:
    return opened.memory.calls[mark:]


@BOTH_KINDS
def test_chunks_and_steps_give_what_the_graph_gives(with_engines: WithEngines, release: str) -> None:
    opened = Opened(with_engines(release), library(release))
    decoder, rows, graph = opened.engines.decoder, embeddings(opened, CHUNK + 6), by_hand(opened)
    found = decoder.prefill(rows[: CHUNK + 3], past=0)
    graph.run(rows[:CHUNK])
    np.testing.assert_array_equal(found, graph.run(rows[CHUNK : CHUNK + 3], pad_to=CHUNK))
    for past in range(CHUNK + 3, CHUNK + 6):
        np.testing.assert_array_equal(step(opened, rows[past], past), graph.run(rows[past : past + 1]))


@BOTH_KINDS
def test_its_logits_are_near_those_of_the_ort_dialect(with_engines: WithEngines, release: str) -> None:
    opened = Opened(with_engines(release), library(release))
    bundle, rows = opened.bundle, embeddings(opened, 100)
    host = OrtDecoder(bundle.file("decoder.ort.onnx"), bundle.manifest.facts, threads=1, capacity=CONTEXT)
    for past, count in ((0, 90), (90, 1), (91, 9)):
        part = rows[past : past + count]
        found = opened.engines.decoder.prefill(part, past=past)
        np.testing.assert_allclose(found, host.prefill(part, past=past), atol=1e-2)


def test_any_split_of_a_prompt_gives_the_same_answer(opened: Opened) -> None:
    decoder, rows = opened.engines.decoder, embeddings(opened, 150)
    whole = decoder.prefill(rows, past=0).copy()
    for cuts in ((0, 1, 150), (0, 70, 150), (0, 149, 150), (0, CHUNK, 2 * CHUNK, 150)):
        for start, end in pairwise(cuts):
            logits = decoder.prefill(rows[start:end], past=start)
        np.testing.assert_allclose(logits, whole, atol=1e-2)


@BOTH_KINDS
def test_one_row_and_its_place_go_to_the_device_for_a_token_and_its_logits_come_back(
    with_engines: WithEngines, release: str
) -> None:
    opened = Opened(with_engines(release), library(release))
    facts = opened.bundle.manifest.facts
    opened.engines.decoder.prefill(embeddings(opened, 5), past=0)
    mark = len(opened.memory.calls)
    for past in range(5, 9):
        step(opened, embeddings(opened, 1)[0], past)
    per_token = [(call.kind, call.size_bytes) for call in since(opened, mark)]
    row_bytes = 2 * facts.hidden_size
    assert row_bytes % 256 == 0
    once = [
        ("to_device", row_bytes + 256 + 8),  # its position, in a piece of 256, and which row counts
        ("execute", 0) if release == RTX else ("launch", 0),
        *([("lines", new_rows_bytes(facts))] if release == JETPACK_6 else []),  # on the device
        ("to_host", 4 * facts.vocab_size),
        ("synchronise", 0),
    ]
    assert per_token == 4 * once


def test_no_logits_come_back_between_the_chunks_of_a_prompt(opened: Opened) -> None:
    mark = len(opened.memory.calls)
    opened.engines.decoder.prefill(embeddings(opened, 3 * CHUNK - 1), past=0)
    kinds = [call.kind for call in since(opened, mark)]
    assert kinds == 2 * ["to_device", "execute", "synchronise"] + ["to_device", "execute", "to_host", "synchronise"]


def test_a_whole_chunk_runs_at_once_and_a_tail_is_padded_where_it_fits(opened: Opened) -> None:
    assert executed(opened, past=0, count=CHUNK) == ["profile 1"]
    assert executed(opened, past=0, count=CHUNK + 2) == ["profile 1", "profile 1"]
    assert executed(opened, past=7, count=1) == ["profile 0"]
    assert executed(opened, past=CONTEXT - CHUNK, count=3) == ["profile 1"]


def test_a_tail_at_the_end_of_the_cache_runs_row_by_row(opened: Opened) -> None:
    assert executed(opened, past=CONTEXT - CHUNK + 1, count=3) == 3 * ["profile 0"]
    assert executed(opened, past=CONTEXT - CHUNK - 2, count=CHUNK + 2) == ["profile 1", "profile 0", "profile 0"]


@BOTH_KINDS
def test_a_tail_gives_the_same_logits_padded_and_row_by_row(with_engines: WithEngines, release: str) -> None:
    opened = Opened(with_engines(release), library(release))
    decoder, rows = opened.engines.decoder, embeddings(opened, CONTEXT)
    past = CONTEXT - CHUNK - 1
    decoder.prefill(rows[:past], past=0)
    padded = decoder.prefill(rows[past : past + 3], past=past).copy()
    for place in range(3):
        one_by_one = step(opened, rows[past + place], past + place)
    np.testing.assert_allclose(one_by_one, padded, atol=1e-2)


def test_the_cache_can_be_filled_to_its_last_position_and_no_further(opened: Opened) -> None:
    decoder = opened.engines.decoder
    rows = embeddings(opened, CONTEXT)
    decoder.prefill(rows[:-1], past=0)
    assert np.isfinite(step(opened, rows[-1], CONTEXT - 1)).all()
    with pytest.raises(SessionError, match=f"2 rows after {CONTEXT - 1} do not fit into a cache of {CONTEXT}"):
        decoder.prefill(rows[:2], past=CONTEXT - 1)
    with pytest.raises(SessionError, match="1 rows after 1024"):
        decoder.step(past=CONTEXT)


@BOTH_KINDS
def test_a_second_request_sees_nothing_of_the_first(with_engines: WithEngines, release: str) -> None:
    opened = Opened(with_engines(release), library(release))
    decoder = opened.engines.decoder
    first, second = embeddings(opened, 90, seed=1), embeddings(opened, 20, seed=2)
    fresh = decoder.prefill(second, past=0).copy()
    decoder.prefill(first, past=0)
    np.testing.assert_array_equal(decoder.prefill(second, past=0), fresh)


@BOTH_KINDS
def test_a_request_that_leaves_no_numbers_in_the_cache_does_not_spoil_the_next(
    with_engines: WithEngines, release: str
) -> None:
    opened = Opened(with_engines(release), library(release))
    decoder, rows = opened.engines.decoder, embeddings(opened, 5)
    expected = decoder.prefill(rows, past=0).copy()
    spoilt = np.full((CHUNK + 6, rows.shape[1]), np.inf, np.float16)
    assert not np.isfinite(decoder.prefill(spoilt, past=0)).any()
    step(opened, rows[0], CHUNK + 6)
    np.testing.assert_array_equal(decoder.prefill(rows[:3], past=0), decoder.prefill(rows[:3], past=0))
    decoder.prefill(rows[:4], past=0)
    np.testing.assert_array_equal(step(opened, rows[4], 4), step(opened, rows[4], 4))
    np.testing.assert_allclose(step(opened, rows[4], 4), expected, atol=1e-2)


def test_the_cache_is_cleared_after_a_request_that_was_stopped_and_after_no_other(opened: Opened) -> None:
    decoder, rows = opened.engines.decoder, embeddings(opened, 5)
    mark = len(opened.memory.calls)
    decoder.prefill(rows, past=0)
    decoder.prefill(rows, past=0)
    assert "zero" not in [call.kind for call in since(opened, mark)]
    decoder.stop()
    with pytest.raises(RunStoppedError):
        decoder.prefill(rows, past=0)
    decoder.rearm()
    decoder.prefill(rows, past=5)
    decoder.prefill(rows, past=0)
    kinds = [call.kind for call in since(opened, mark)]
    assert kinds.count("zero") == 0  # what came after it was computed whole, and is numbers
    decoder.stop()
    with pytest.raises(RunStoppedError):
        decoder.prefill(rows, past=5)
    decoder.rearm()
    decoder.prefill(rows, past=0)
    assert opened.memory.calls[-5].kind == "zero"


def test_nothing_is_allocated_after_opening(opened: Opened) -> None:
    mark = len(opened.memory.calls)
    opened.engines.decoder.prefill(embeddings(opened, 2 * CHUNK + 5), past=0)
    step(opened, embeddings(opened, 1)[0], 2 * CHUNK + 5)
    assert not {"allocate", "pinned", "zero"} & {call.kind for call in since(opened, mark)}


def test_row_and_logits_are_the_same_memory_of_the_host_every_time(opened: Opened) -> None:
    decoder = opened.engines.decoder
    first, row = decoder.prefill(embeddings(opened, 2), past=0), decoder.row
    assert decoder.step(past=2).ctypes.data == first.ctypes.data
    assert decoder.row.ctypes.data == row.ctypes.data
    assert (first.dtype, row.dtype) == (np.float32, np.float16)


def test_the_cache_is_zeros_when_opening_is_done_and_has_the_engines_capacity(opened: Opened) -> None:
    facts, decoder = opened.bundle.manifest.facts, opened.engines.decoder
    expected = 2 * facts.num_layers * facts.num_kv_heads * CONTEXT * facts.head_dim * 2
    assert (decoder.capacity, decoder.cache_bytes) == (CONTEXT, expected)
    assert opened.memory.named("zero")[-1] == Call(kind="zero", size_bytes=expected)
    kinds = [call.kind for call in opened.memory.calls]
    assert kinds[-1] == "zero"


def test_a_stopped_engine_enqueues_nothing_until_it_is_armed_again(opened: Opened) -> None:
    decoder, rows = opened.engines.decoder, embeddings(opened, 5)
    expected = decoder.prefill(rows, past=0).copy()
    decoder.stop()
    mark = len(opened.memory.calls)
    with pytest.raises(RunStoppedError):
        decoder.prefill(rows, past=0)
    with pytest.raises(RunStoppedError):
        decoder.step(past=5)
    assert since(opened, mark) == []
    decoder.rearm()
    np.testing.assert_array_equal(decoder.prefill(rows, past=0), expected)


def test_a_stop_while_a_chunk_runs_ends_the_prompt_after_it(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, synchronise = opened.engines.decoder, opened.memory.synchronise

    def stopping() -> None:
        decoder.stop()
        synchronise()

    monkeypatch.setattr(opened.memory, "synchronise", stopping)
    mark = len(opened.memory.calls)
    with pytest.raises(RunStoppedError):
        decoder.prefill(embeddings(opened, 4 * CHUNK), past=0)
    assert [call.kind for call in since(opened, mark)] == ["to_device", "execute", "synchronise"]


def test_runs_of_all_threads_go_through_one(opened: Opened) -> None:
    # The memory itself refuses any other thread.
    callers = [threading.Thread(target=opened.engines.decoder.step, kwargs={"past": past}) for past in range(4)]
    mark = len(opened.memory.calls)
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len([call for call in since(opened, mark) if call.kind == "execute"]) == 4


def test_how_long_the_device_computed_is_told_for_a_whole_prompt(opened: Opened) -> None:
    decoder = opened.engines.decoder
    decoder.prefill(embeddings(opened, 2 * CHUNK + 1), past=0)
    assert decoder.run_ns == 3_000_000
    decoder.step(past=0)
    assert decoder.run_ns == 1_000_000


def test_what_the_library_refuses_is_told_in_its_words_and_the_engine_goes_on(opened: Opened) -> None:
    opened.library.trt.faults["execute"] = "[graph_exec.cpp::enqueue::12] CUDA error 700\nsecond line"
    with pytest.raises(SessionError, match=r"decoder.engine does not run: \[graph_exec.*CUDA error 700\n"):
        opened.engines.decoder.prefill(embeddings(opened, 3), past=0)
    del opened.library.trt.faults["execute"]
    assert np.isfinite(opened.engines.decoder.prefill(embeddings(opened, 3), past=0)).all()


def test_what_the_memory_library_says_is_a_session_error(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise opened.memory.errors[0]("cuMemcpyHtoDAsync failed: an illegal memory access was encountered")

    monkeypatch.setattr(opened.memory, "to_device", broken)
    with pytest.raises(SessionError, match="the GPU failed: cuMemcpyHtoDAsync failed: an illegal memory access"):
        opened.engines.decoder.step(past=0)


def test_tensorrt_rtx_is_asked_to_record_steps_and_nothing_else(opened: Opened) -> None:
    strategies = opened.library.trt.CudaGraphStrategy
    recorded = [config.cuda_graph_strategy for config in opened.library.trt.configs]
    assert recorded == [strategies.DISABLED, strategies.WHOLE_GRAPH_CAPTURE, strategies.DISABLED]  # vision, step, chunk
    assert opened.memory.named("record") == []


def test_the_full_tensorrt_has_its_step_recorded_by_the_driver(with_engines: WithEngines) -> None:
    opened = Opened(with_engines(JETPACK_7), library(JETPACK_7))
    assert len(opened.memory.named("record")) == 1
    mark = len(opened.memory.calls)
    opened.engines.decoder.prefill(embeddings(opened, 3), past=0)  # chunks are not recorded
    step(opened, embeddings(opened, 1)[0], 3)
    assert [call.kind for call in since(opened, mark) if call.kind in ("execute", "launch")] == ["execute", "launch"]


def test_a_step_that_the_driver_cannot_record_runs_as_it_is_with_a_warning(with_engines: WithEngines) -> None:
    bundle = with_engines(JETPACK_7)
    with pytest.warns(RuntimeWarning, match=r"cannot be recorded .*CAPTURE_INVALIDATED.*one by one"):
        opened = Opened(bundle, library(JETPACK_7), captures=False)
    assert np.isfinite(step(opened, embeddings(opened, 1)[0], 0)).all()
    assert opened.memory.named("launch") == []


def test_a_step_that_tensorrt_rtx_cannot_record_is_a_warning(with_engines: WithEngines) -> None:
    bundle, rtx = with_engines(), library()
    rtx.trt.faults["capture"] = True
    with pytest.warns(RuntimeWarning, match="cannot be recorded as a CUDA graph"):
        Opened(bundle, rtx)


def test_a_recording_that_computes_something_else_is_refused_at_opening(
    with_engines: WithEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recorded_device import RecordedGraph

    monkeypatch.setattr(RecordedGraph, "launch", lambda self: None)  # as one that was recorded with other addresses
    with pytest.raises(SessionError, match="gives other logits once it is recorded: they differ by") as caught:
        Opened(with_engines(JETPACK_7), library(JETPACK_7))
    assert "--backend onnxruntime" in str(caught.value.remedy)


def test_everything_is_freed_when_nobody_holds_the_engines_any_more(with_engines: WithEngines) -> None:
    opened = Opened(with_engines(), library())
    memory = opened.memory
    opened.engines.decoder.stop()
    with pytest.raises(RunStoppedError):
        opened.engines.decoder.step(past=0)
    gc.disable()
    try:
        del opened
        assert memory.closed  # at once, by reference counts alone, on the thread that opened it
    finally:
        gc.enable()


def new_rows_bytes(facts: ModelFacts) -> int:
    """Of one position in all slots, whose heads are as many as make a whole number of pieces of 256 bytes."""
    head_bytes = 2 * facts.head_dim
    even = 256 // math.gcd(256, head_bytes)
    return 2 * facts.num_layers * -(-facts.num_kv_heads // even) * even * head_bytes


def executed(opened: Opened, *, past: int, count: int) -> list[str]:
    mark = len(opened.memory.calls)
    opened.engines.decoder.prefill(embeddings(opened, count), past=past)
    return [call.name for call in since(opened, mark) if call.kind == "execute"]
