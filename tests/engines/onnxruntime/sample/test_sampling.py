"""From few layers to all of them, on a clock that tells what it is told; and once on real kernels."""

from dataclasses import replace

import numpy as np
import pytest

from phiedge.bundle import Bundle, ModelFacts, Precision
from phiedge.devices.planning.models import PUBLISHED
from phiedge.engines.onnxruntime.sample import sampling
from phiedge.engines.onnxruntime.sample.sampling import ModelSample, can_sample, sample_bytes
from phiedge.engines.onnxruntime.sample.timing import medians_ms
from phiedge.exporters.precision import choose_precision

LAYER_MS, BARE_MS = 3.0, 5.0


class Stub:
    """Takes `BARE_MS`, and `LAYER_MS` for each of its layers or blocks, whatever it runs."""

    weights_bytes = 10**8

    def __init__(self, layers: int) -> None:
        self.layers = layers

    def run(self, *_: int, past: int = 0) -> "Stub":
        return self


def int4() -> Precision:
    return choose_precision("int4", sm=None, widths=(PUBLISHED.hidden_size,)).plan.record(embed_tokens="bfloat16")


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replaces graphs and clock; returns the numbers of layers that were opened."""
    opened: list[int] = []

    def decoder(sample: sampling.DecoderSample, *, threads: int) -> Stub:
        opened.append(sample.layers)
        return Stub(sample.layers)

    monkeypatch.setattr(sampling, "DecoderTimer", decoder)
    monkeypatch.setattr(sampling, "VisionTimer", lambda facts, *, blocks, threads: Stub(blocks))
    monkeypatch.setattr(sampling, "medians_ms", lambda runs, clock: [BARE_MS + LAYER_MS * run.layers for run in runs])
    return opened


def sampled(facts: ModelFacts, precision: Precision, *, positions: int = 4096, patches: int = 1024):
    return ModelSample(facts, precision, positions=positions, patches=patches, threads=1).times()


def test_every_layer_that_was_not_run_takes_what_those_took_that_were(stubbed: list[int]) -> None:
    precision = int4()
    times = sampled(PUBLISHED, precision)
    few = times.layers - 1
    assert stubbed == [few, 0]
    assert 1 <= few < PUBLISHED.num_layers - 1
    head_bytes = PUBLISHED.vocab_size * PUBLISHED.hidden_size * 8.25 / 8
    missing_ms = (head_bytes - 256e6) * BARE_MS / Stub.weights_bytes
    host_ms = 0.007 + 1.5e-6 * PUBLISHED.vocab_size
    rows_ms = BARE_MS + LAYER_MS * (PUBLISHED.num_layers - 1) + missing_ms
    assert times.token(1024) == pytest.approx(rows_ms + host_ms, rel=1e-3)
    assert times.chunk(256, past=0) == pytest.approx(rows_ms, rel=1e-3)
    assert times.picture(1024) == pytest.approx(BARE_MS + LAYER_MS * PUBLISHED.vision_layers_used)


def test_a_small_model_is_sampled_whole(stubbed: list[int]) -> None:
    small = replace(PUBLISHED, hidden_size=256, intermediate_size=512, num_heads=2, num_kv_heads=1)
    times = sampled(small, int4())
    assert stubbed == [small.num_layers - 1]
    assert times.layers == small.num_layers


def test_wider_weights_are_more_to_read_for_a_token_and_not_for_a_prompt(stubbed: list[int]) -> None:
    narrow = int4()
    names = [f"model.layers.{layer}.mlp.down_proj.weight" for layer in range(PUBLISHED.num_layers)]
    wide = sampled(PUBLISHED, replace(narrow, wider=dict.fromkeys(names, "int8")))
    plain = sampled(PUBLISHED, narrow)
    assert wide.token(64) > 1.1 * plain.token(64)
    assert wide.chunk(256, past=0) == plain.chunk(256, past=0)


def test_what_is_not_asked_about_is_not_timed(stubbed: list[int]) -> None:
    times = sampled(PUBLISHED, int4(), positions=100, patches=0)
    assert [context for context, _ in times.token_ms] == [64, 100]
    assert [rows for rows, _ in times.chunk_ms] == [16, 64, 100]
    assert times.past_ms == ((0, 0.0),)
    assert times.picture_ms == ()


def test_medians_are_taken_in_turns_and_without_the_first_run() -> None:
    now, order = 0, []

    def run(name: str, ms: int):
        def go() -> None:
            nonlocal now
            now += (ms if name in order else 100 * ms) * 1_000_000
            order.append(name)

        return go

    assert medians_ms([run("a", 20), run("b", 30)], lambda: now) == [20, 30]
    assert order[:6] == ["a", "b", "a", "b", "a", "b"]


def test_only_types_that_a_sample_has_are_sampled() -> None:
    assert can_sample(int4())
    assert can_sample(replace(int4(), decoder="float32", lm_head="float32", group_size=None, codes=None))
    assert not can_sample(replace(int4(), decoder="float8", lm_head="float16", group_size=None, codes=None))


def test_a_sample_of_the_full_size_model_takes_a_small_part_of_it() -> None:
    assert 1e9 < sample_bytes(PUBLISHED, int4()) < 4e9


def test_a_tiny_model_is_timed_for_real(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phiedge.engines.onnxruntime.sample.timing._ENOUGH_NS", 0)
    manifest = tiny_bundle.manifest
    times = sampled(manifest.facts, manifest.precision, positions=64, patches=manifest.facts.min_num_patches)
    assert times.layers == manifest.facts.num_layers
    numbers = [ms for knots in (times.token_ms, times.chunk_ms, times.picture_ms) for _, ms in knots]
    assert np.isfinite(numbers).all()
    assert min(numbers) > 0
    assert times.chunk(64, past=0) > times.token(64)
