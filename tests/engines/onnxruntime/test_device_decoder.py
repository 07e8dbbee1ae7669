"""The device's code path on the CPU: memory of its own on "the device", copies, pinned length, one thread."""

import threading
from collections.abc import Callable

import numpy as np
import pytest

from phiedge.bundle import Bundle
from phiedge.engines.interface import RunStoppedError
from phiedge.engines.onnxruntime import device_buffers
from phiedge.engines.onnxruntime.decoder import OrtDecoder
from phiedge.engines.onnxruntime.device_decoder import DeviceDecoder
from phiedge.engines.onnxruntime.device_thread import DeviceThread
from phiedge.engines.onnxruntime.provider import CPU, Provider
from phiedge.errors import SessionError, UsageError

CAPACITY = 64
STAND_IN = Provider(name=CPU, device="cpu", captures=True)  # ONNX Runtime's CPU ignores a wish to capture


def opened(bundle: Bundle, *, capacity: int = CAPACITY, threads: int = 1) -> DeviceDecoder:
    return DeviceDecoder(
        bundle.file("decoder.ort.onnx"),
        bundle.manifest.facts,
        threads=threads,
        capacity=capacity,
        provider=STAND_IN,
        thread=DeviceThread(),
    )


@pytest.fixture
def half_bundle(export_oracle: Callable[[str], Bundle]) -> Bundle:
    return export_oracle("fp16")


@pytest.fixture
def decoder(half_bundle: Bundle) -> DeviceDecoder:
    return opened(half_bundle)


def embeddings(decoder: DeviceDecoder | OrtDecoder, count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, decoder.row.size)).astype(decoder.input_dtype)


def logits_of_three_chunks_and_three_steps(decoder: DeviceDecoder | OrtDecoder) -> list[np.ndarray]:
    rows = embeddings(decoder, 10)
    found = [decoder.prefill(rows[start:end], past=start).copy() for start, end in ((0, 4), (4, 6), (6, 7))]
    for past in (7, 8, 9):
        decoder.row[:] = rows[past]
        found.append(decoder.step(past=past).copy())
    return found


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int4"])
def test_its_logits_are_those_of_the_engine_of_the_host(export_oracle: Callable[[str], Bundle], precision: str) -> None:
    bundle = export_oracle(precision)
    host = OrtDecoder(bundle.file("decoder.ort.onnx"), bundle.manifest.facts, threads=1, capacity=CAPACITY)
    wanted = logits_of_three_chunks_and_three_steps(host)
    for found, logits in zip(logits_of_three_chunks_and_three_steps(opened(bundle)), wanted, strict=True):
        np.testing.assert_array_equal(found, logits)


def test_going_back_to_an_earlier_length_forgets_what_came_after(decoder: DeviceDecoder) -> None:
    first = logits_of_three_chunks_and_three_steps(decoder)
    for again, before in zip(logits_of_three_chunks_and_three_steps(decoder), first, strict=True):
        np.testing.assert_array_equal(again, before)


def test_row_and_logits_are_the_same_memory_of_the_host_every_time(decoder: DeviceDecoder) -> None:
    first, row = decoder.prefill(embeddings(decoder, 2), past=0), decoder.row
    assert decoder.step(past=2).ctypes.data == first.ctypes.data
    assert decoder.row.ctypes.data == row.ctypes.data
    assert first.dtype == np.float32


def test_what_is_written_on_the_host_reaches_the_device_with_the_next_step_only(decoder: DeviceDecoder) -> None:
    decoder.prefill(embeddings(decoder, 2), past=0)
    decoder.row[:] = 1
    assert not (decoder._row.value.numpy() == 1).all()
    decoder.step(past=2)
    assert (decoder._row.value.numpy() == 1).all()


def test_nothing_that_a_recording_holds_moves(decoder: DeviceDecoder) -> None:
    def addresses() -> list[int]:
        bound = (decoder._row, decoder._last_position, decoder._logits)
        return [mirror.value.data_ptr() for mirror in bound] + [
            value.data_ptr() for value in decoder._cache.values.values()
        ]

    before = addresses()
    logits_of_three_chunks_and_three_steps(decoder)
    assert addresses() == before
    assert len(set(before)) == len(before)
    assert int(decoder._pinned_total) == CAPACITY


def test_a_cache_of_one_position_can_be_recorded(half_bundle: Bundle) -> None:
    decoder = opened(half_bundle, capacity=1)
    assert np.isfinite(decoder.prefill(embeddings(decoder, 1), past=0)).all()


def test_the_cache_has_the_asked_capacity_and_starts_as_numbers(half_bundle: Bundle) -> None:
    decoder, facts = opened(half_bundle), half_bundle.manifest.facts
    values = list(decoder._cache.values.values())
    assert decoder.capacity == CAPACITY
    assert decoder.cache_bytes == sum(value.tensor_size_in_bytes() for value in values)
    assert [value.shape() for value in values] == [[1, facts.num_kv_heads, CAPACITY, facts.head_dim]] * len(values)
    assert not any(value.numpy()[:, :, 2:].any() for value in values)  # recording has written two positions


def test_runs_of_all_threads_go_through_one(decoder: DeviceDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    run = decoder._step
    monkeypatch.setattr(decoder, "_step", lambda past: (seen.add(threading.get_ident()), run(past))[1])
    callers = [threading.Thread(target=decoder.step, kwargs={"past": past}) for past in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    decoder.step(past=5)
    assert len(seen) == 1
    assert threading.get_ident() not in seen


def test_a_stopped_engine_refuses_steps_and_chunks_until_it_is_armed_again(decoder: DeviceDecoder) -> None:
    rows = embeddings(decoder, 5)
    expected = decoder.prefill(rows, past=0).copy()
    decoder.stop()
    with pytest.raises(RunStoppedError):
        decoder.prefill(rows, past=0)
    with pytest.raises(RunStoppedError):
        decoder.step(past=5)
    decoder.rearm()
    np.testing.assert_array_equal(decoder.prefill(rows, past=0), expected)


def test_a_run_that_fails_is_a_session_error_and_the_engine_goes_on(decoder: DeviceDecoder) -> None:
    with pytest.raises(SessionError, match="decoder.ort.onnx failed"):
        decoder.prefill(embeddings(decoder, CAPACITY + 1), past=0)
    assert np.isfinite(decoder.prefill(embeddings(decoder, 4), past=0)).all()


def test_a_recording_that_computes_something_else_is_refused_at_opening(
    half_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = DeviceDecoder._step
    monkeypatch.setattr(DeviceDecoder, "_step", lambda self, past: step(self, past) * 1.1)
    with pytest.raises(SessionError, match="recorded on CPUExecutionProvider gives other logits") as caught:
        opened(half_bundle)
    assert "--backend onnxruntime" in str(caught.value.remedy)


def test_a_recording_that_gives_no_numbers_is_refused_at_opening(
    half_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = DeviceDecoder._step
    monkeypatch.setattr(DeviceDecoder, "_step", lambda self, past: step(self, past) * np.nan)
    with pytest.raises(SessionError, match="gives other logits"):
        opened(half_bundle)


def test_a_cache_that_is_not_written_in_place_is_noticed(decoder: DeviceDecoder) -> None:
    values = decoder._cache.values
    values["0.key"], values["0.value"] = values["0.value"], values["0.key"]
    with pytest.raises(SessionError, match="did not write the cache in place"):
        decoder._check_addresses()


def test_a_cache_that_the_device_has_no_room_for_is_refused_with_its_size(
    half_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("CUDA failure 2: out of memory")

    monkeypatch.setattr(device_buffers, "_allocated", full)
    with pytest.raises(SessionError, match=r"64 positions needs 0\.00 GB of device memory: CUDA failure 2") as caught:
        opened(half_bundle)
    assert "max_context" in str(caught.value.remedy)


def test_no_threads_are_refused(half_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="threads must be from 1 to .*, not 0"):
        opened(half_bundle, threads=0)
