"""Which cases are run and which are left out, on a model that takes the time that it is told to take."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from phiedge.bundle import Bundle
from phiedge.devices.host import Disturbance
from phiedge.progress import silent
from phiedge.runtime.bench.cases import Cases, Samples
from phiedge.runtime.bench.decode import DecodeSamples, measure_decode
from phiedge.runtime.bench.limits import Limits, limits_of, reads_of
from phiedge.runtime.bench.plan import BenchPlan, plan_bench
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.session import Session

SECOND_NS = 1_000_000_000


class Clock:
    """Stands still but for what runs take."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture(scope="module")
def model(oracle_bundle: Bundle) -> LoadedModel:
    return LoadedModel(oracle_bundle, max_context=None, threads=1, chunk_tokens=256)


@pytest.fixture
def works(oracle_bundle: Bundle) -> Limits:
    reads = reads_of(oracle_bundle, dialect="ort", position_bytes=1)
    return limits_of(oracle_bundle, reads=reads, chunk_tokens=256, rates=None)


@pytest.fixture
def clock(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock on which a row of a prompt takes 0.1 s, a token 0.5 s, of which the engine has 0.4, and all else none."""
    clock = Clock()
    logits = np.zeros(model.facts.vocab_size, dtype=np.float32)

    def run_chunk(start: int, count: int) -> np.ndarray:
        clock.now_ns += count * SECOND_NS // 10
        return logits

    def step(token: int) -> np.ndarray:
        clock.now_ns += SECOND_NS // 2
        model.step_run_ns = 4 * SECOND_NS // 10
        return logits

    monkeypatch.setattr(model, "run_chunk", run_chunk)
    monkeypatch.setattr(model, "step", step)
    return clock


def measure(model: LoadedModel, bundle: Bundle, plan: BenchPlan, works: Limits, clock: Clock) -> Samples:
    session = Session(bundle, model, load_ns=0)
    return Cases(model, session, plan, works, clock_ns=clock).measure(silent)


def test_a_slow_model_is_measured_as_far_as_time_allows_and_the_rest_is_named(
    model: LoadedModel, oracle_bundle: Bundle, works: Limits, clock: Clock
) -> None:
    plan = plan_bench(model.facts, max_context=model.context, pictures=[], seconds=60.0)
    samples = measure(model, oracle_bundle, plan, works, clock)
    assert list(samples.prefill_ns) == [64]  # 256 would take 25.6 s, of the 30 that end with prefill 8 are gone
    assert samples.prefill_ns[64][0] == 6.4 * SECOND_NS
    named = [note for note in samples.left_out if note.startswith("a prompt of")]
    assert [note.split(" tokens")[0] for note in named] == ["a prompt of 256", "a prompt of 1024"]
    assert list(samples.decode) == [64, 256, 1024]
    assert all(len(found.token_ns) >= 5 for found in samples.decode.values())
    assert clock.now_ns <= 75 * SECOND_NS


def test_contexts_take_turns(
    model: LoadedModel, oracle_bundle: Bundle, works: Limits, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[int] = []

    def measure_slice(*given: Any, context: int, **options: Any) -> DecodeSamples:
        turns.append(context)
        return measure_decode(*given, context=context, **options)

    monkeypatch.setattr("phiedge.runtime.bench.cases.measure_decode", measure_slice)
    plan = plan_bench(model.facts, max_context=model.context, contexts=[1, 2], prefill=[], pictures=[], steps=10)
    samples = measure(model, oracle_bundle, plan, works, clock)
    assert {context: len(found.token_ns) for context, found in samples.decode.items()} == {1: 10, 2: 10}
    assert turns == [1, 2] * 4


def test_samples_of_several_rounds_add_up() -> None:
    one = DecodeSamples(
        token_ns=(1, 2),
        host_ns=(3, 4),
        disturbance=Disturbance(minor_faults=1, major_faults=2, involuntary_switches=3),
    )
    assert one + one == DecodeSamples(
        token_ns=(1, 2, 1, 2),
        host_ns=(3, 4, 3, 4),
        disturbance=Disturbance(minor_faults=2, major_faults=4, involuntary_switches=6),
    )


def test_what_was_asked_for_is_measured_however_long_it_takes(
    model: LoadedModel, oracle_bundle: Bundle, works: Limits, clock: Clock
) -> None:
    plan = plan_bench(
        model.facts, max_context=model.context, contexts=[1], prefill=[64, 1024], pictures=["64x64"], seconds=1.0
    )
    samples = measure(model, oracle_bundle, plan, works, clock)
    assert {length: len(found) for length, found in samples.prefill_ns.items()} == {64: 1, 1024: 1}
    assert len(samples.vision) == 1
    assert len(samples.decode[1].token_ns) == 8


def test_a_token_is_split_into_the_engine_and_the_host(
    model: LoadedModel, oracle_bundle: Bundle, works: Limits, clock: Clock
) -> None:
    plan = plan_bench(model.facts, max_context=model.context, contexts=[8], prefill=[], pictures=[], steps=3)
    found = measure(model, oracle_bundle, plan, works, clock).decode[8]
    assert found.token_ns == (SECOND_NS // 2,) * 3
    assert found.host_ns == (SECOND_NS // 10,) * 3


def test_steps_lead_up_to_their_context_and_never_beyond(
    model: LoadedModel, oracle_bundle: Bundle, works: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []
    original = model._decoder.step

    def step(*, past: int) -> np.ndarray:
        lengths.append(past)
        return original(past=past)

    monkeypatch.setattr(model._decoder, "step", step)
    contexts = [1, 5, 1024]
    plan = plan_bench(model.facts, max_context=model.context, contexts=contexts, prefill=[], pictures=[], steps=400)
    ticks: Iterator[int] = iter(range(0, 10**12, 10**6))
    Cases(model, Session(oracle_bundle, model, load_ns=0), plan, works, clock_ns=lambda: next(ticks)).measure(silent)
    assert set(lengths) == {0, 3, 4, *range(1024 - 32, 1024)}


def test_a_request_is_measured_with_the_largest_picture_that_there_is_time_for(
    model: LoadedModel, oracle_bundle: Bundle, works: Limits, clock: Clock
) -> None:
    options = {"contexts": [1], "prefill": [64], "pictures": ["16x16", "64x64"]}
    plan = plan_bench(model.facts, max_context=model.context, seconds=600.0, **options)
    found = measure(model, oracle_bundle, plan, works, clock).first_token
    assert found is not None
    picture, tokens, spent_ns = found
    assert picture == plan.pictures[-1]
    assert tokens > picture.grid.tokens
    assert spent_ns[0] == tokens * SECOND_NS // 10

    hurried = plan_bench(model.facts, max_context=model.context, seconds=1.0, **options)
    samples = measure(model, oracle_bundle, hurried, works, clock)
    assert samples.first_token is None
    assert any(note.startswith("a request with a picture") for note in samples.left_out)
