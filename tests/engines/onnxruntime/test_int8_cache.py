"""The decoder with its cache in int8: the same rows as with a float cache, nearly the same logits."""

from typing import Any

import numpy as np
import pytest

from int8_caches import ROWS, random_rows, scales_in_graph
from phiedge.bundle import Bundle, ModelFacts
from phiedge.engines.onnxruntime import memory_need
from phiedge.engines.onnxruntime.decoder import OrtDecoder
from phiedge.engines.onnxruntime.device_decoder import DeviceDecoder
from phiedge.engines.onnxruntime.device_thread import DeviceThread
from phiedge.engines.onnxruntime.opening import open_engines
from phiedge.engines.onnxruntime.provider import CPU, Provider
from phiedge.errors import BundleError
from phiedge.exporters.tensors import EMBEDDING_TABLE

CAPACITY = 64


@pytest.fixture
def decoder(int8_bundle: Bundle, facts: ModelFacts) -> OrtDecoder:
    graph = int8_bundle.file("decoder.ort.onnx")
    return OrtDecoder(graph, facts, threads=1, capacity=CAPACITY, cache_type="int8")


@pytest.fixture
def float_decoder(oracle_bundle: Bundle, facts: ModelFacts) -> OrtDecoder:
    return OrtDecoder(oracle_bundle.file("decoder.ort.onnx"), facts, threads=1, capacity=CAPACITY)


def test_logits_are_nearly_those_of_a_float_cache(
    decoder: OrtDecoder, float_decoder: OrtDecoder, facts: ModelFacts
) -> None:
    rows = random_rows(facts.hidden_size)
    for count in (1, 7, ROWS):
        wanted, found = (each.prefill(rows[:count], past=0).copy() for each in (float_decoder, decoder))
        error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert 0 < error < 0.02, count
        assert found.argmax() == wanted.argmax()


def test_a_cache_holds_the_nearest_codes_and_nothing_behind_them(
    int8_bundle: Bundle, decoder: OrtDecoder, float_decoder: OrtDecoder, facts: ModelFacts
) -> None:
    rows = random_rows(facts.hidden_size)
    for each in (decoder, float_decoder):
        each.prefill(rows, past=0)
    of_layer = scales_in_graph(int8_bundle).layers[0]
    for codes, values, flat in zip(decoder._cache.layers()[0], float_decoder._cache.layers()[0], of_layer, strict=True):
        assert codes.dtype == np.int8
        wanted = values[0, :, :ROWS] / flat.reshape(facts.num_kv_heads, 1, facts.head_dim)
        assert np.abs(codes[0, :, :ROWS] - wanted.clip(-127, 127)).max() < 0.51
        assert not codes[0, :, ROWS:].any()


def test_steps_and_chunks_give_the_same_logits(decoder: OrtDecoder, facts: ModelFacts) -> None:
    rows = random_rows(facts.hidden_size, 8)
    whole = decoder.prefill(rows, past=0).copy()
    decoder.prefill(rows[:3], past=0)
    decoder.prefill(rows[3:5], past=3)
    for past in (5, 6, 7):
        decoder.row[:] = rows[past]
        stepped = decoder.step(past=past)
    # A number on the border of two codes may be rounded to either.
    assert np.linalg.norm(stepped - whole) < 2e-3 * np.linalg.norm(whole)


def test_what_lies_behind_the_committed_length_is_written_over(decoder: OrtDecoder, facts: ModelFacts) -> None:
    rows = random_rows(facts.hidden_size, 12)
    wanted = decoder.prefill(rows, past=0).copy()
    decoder.prefill(rows[:6], past=0)
    decoder.prefill(100 * rows[:5], past=6)  # of a request that was given up
    assert np.array_equal(decoder.prefill(rows[6:], past=6), wanted)


def test_a_cache_in_int8_takes_a_quarter(decoder: OrtDecoder, float_decoder: OrtDecoder) -> None:
    assert 4 * decoder.cache_bytes == float_decoder.cache_bytes


def test_the_memory_that_is_asked_for_counts_one_byte_for_a_number(
    int8_bundle: Bundle, oracle_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        memory_need, "require_memory", lambda told, *, resident_bytes, **others: asked.append(resident_bytes)
    )
    facts = int8_bundle.manifest.facts
    for bundle in (oracle_bundle, int8_bundle):
        memory_need.require_memory_to_open(bundle, bundle.manifest.dialects["ort"], None, capacity=10_000)
    numbers = 2 * facts.num_layers * facts.num_kv_heads * facts.head_dim * 10_000
    assert asked[0] - asked[1] == pytest.approx(3 * numbers, rel=0.01)


def test_a_graph_with_another_cache_than_the_manifest_is_refused(
    int8_bundle: Bundle, oracle_bundle: Bundle, facts: ModelFacts
) -> None:
    with pytest.raises(BundleError, match=r"past\.0\.key is tensor\(int8\)"):
        OrtDecoder(int8_bundle.file("decoder.ort.onnx"), facts, threads=1, capacity=CAPACITY)
    with pytest.raises(BundleError, match=r"past\.0\.key as tensor\(float\), .* tensor\(int8\), as the manifest"):
        graph = oracle_bundle.file("decoder.ort.onnx")
        OrtDecoder(graph, facts, threads=1, capacity=CAPACITY, cache_type="int8")


def test_a_bundle_is_opened_with_the_cache_that_its_manifest_names(int8_bundle: Bundle) -> None:
    engines = open_engines(int8_bundle, backend="onnxruntime", threads=1, capacity=32)
    facts = int8_bundle.manifest.facts
    assert engines.decoder.cache_bytes == 2 * facts.num_layers * facts.num_kv_heads * facts.head_dim * 32


@pytest.mark.parametrize("case", ["text", "img1", "img2"])
def test_the_publishers_rows_give_nearly_the_publishers_logits(
    wide_decoder: OrtDecoder, oracle_arrays: Any, oracle_checkpoint: Any, case: str
) -> None:
    table = oracle_checkpoint.float32(EMBEDDING_TABLE)
    rows = np.ascontiguousarray(oracle_arrays[f"{case}/inputs_embeds"][0], np.float32)
    logits, past = wide_decoder.prefill(rows, past=0), len(rows)
    for wanted in oracle_arrays[f"{case}/step_logits"]:
        assert np.linalg.norm(logits - wanted) < 0.03 * np.linalg.norm(wanted)
        assert logits.argmax() == wanted.argmax()
        wide_decoder.row[:] = table[int(wanted.argmax())]
        logits, past = wide_decoder.step(past=past), past + 1


@pytest.fixture
def wide_decoder(int8_bundle: Bundle, facts: ModelFacts) -> OrtDecoder:
    graph = int8_bundle.file("decoder.ort.onnx")
    return OrtDecoder(graph, facts, threads=1, capacity=1024, cache_type="int8")


def test_a_device_has_the_same_cache_and_gives_the_same_logits(int8_bundle: Bundle, decoder: OrtDecoder) -> None:
    on_device = DeviceDecoder(
        int8_bundle.file("decoder.ort.onnx"),
        int8_bundle.manifest.facts,
        threads=1,
        capacity=CAPACITY,
        provider=Provider(name=CPU, device="cpu", captures=True),
        thread=DeviceThread(),
        cache_type="int8",
    )
    rows = random_rows(decoder.row.size, 6)
    assert on_device.cache_bytes == decoder.cache_bytes
    for each in (decoder, on_device):
        each.prefill(rows[:5], past=0)
        each.row[:] = rows[5]
    np.testing.assert_array_equal(on_device.step(past=5), decoder.step(past=5))
