from dataclasses import replace

import pytest

from phiedge.errors import BundleError
from phiedge.runtime.latency_model import PartModel
from phiedge.runtime.pace import ObservedPace, ProfiledPace
from timed_engines import MS, STEP_MS, latency_model, part


def test_high_is_above_usual_by_the_excess_of_both_it_and_the_scale() -> None:
    model = PartModel(coefficients=(1.0, 2.0), scale_ms=3.0, excess=0.5, quantile=0.99, confidence=0.95, samples=300)
    assert model.usual_ms((1.0, 4.0)) == 9.0
    assert model.high_ms((1.0, 4.0)) == 15.0


def test_a_prompt_is_the_sum_of_its_chunks() -> None:
    model = latency_model(chunk_tokens=16)
    assert model.prefill(40).usual_ms == pytest.approx(20.0)
    assert model.prefill(40, past=32) == model.prefill_chunk(8, 32)
    assert model.prefill(0).high_ms == 0


def test_one_of_many_tokens_may_be_slow() -> None:
    model = latency_model(excess=0.5)
    assert model.steps(0, 5).high_ms == 0
    assert model.steps(1, 5) == model.one_step(5)
    assert model.steps(10, 5).usual_ms == pytest.approx(10 * STEP_MS)
    assert model.steps(10, 5).high_ms == pytest.approx(15 * STEP_MS)


@pytest.mark.parametrize("values", [{"coefficients": (-1.0,)}, {"excess": float("nan")}, {"quantile": 1.0}])
def test_a_part_that_cannot_be_is_refused(values: dict) -> None:
    known = {"coefficients": (1.0,), "scale_ms": 1.0, "excess": 0.0, "quantile": 0.9, "confidence": 0.95, "samples": 1}
    with pytest.raises(BundleError, match="latency model"):
        PartModel(**{**known, **values})


def test_slow_tokens_stretch_what_is_believed_and_fast_ones_do_not_shrink_it() -> None:
    pace = ProfiledPace(latency_model())
    assert pace.step_ns(100) == STEP_MS * MS
    pace.observe(int(0.1 * STEP_MS * MS), 100)
    assert pace.step_ns(100) == STEP_MS * MS
    for _ in range(100):
        pace.observe(int(2 * STEP_MS * MS), 100)
    assert pace.steps_ns(10, 100) == pytest.approx(20 * STEP_MS * MS, rel=1e-3)
    pace.observe(int(1000 * STEP_MS * MS), 100)
    assert pace.step_ns(100) < 2.5 * STEP_MS * MS, "one disturbed token says little about the next"


def test_a_pace_without_a_profile_learns_from_what_came() -> None:
    pace = ObservedPace()
    assert pace.steps_ns(10, 5) <= 0
    pace.observe(10 * MS, 5)
    assert (pace.step_ns(6), pace.steps_ns(10, 6)) == (10 * MS, 100 * MS)
    pace.observe(50 * MS, 6)
    assert pace.step_ns(7) == 50 * MS
    for _ in range(200):
        pace.observe(10 * MS, 7)
    assert pace.step_ns(8) == pytest.approx(10 * MS, rel=0.01)


def test_a_part_without_excess_is_what_it_usually_is() -> None:
    assert part(1.0, 2.0).high_ms((1.0, 1.0)) == 3.0


def test_a_whole_request_has_the_excess_that_whole_requests_had() -> None:
    model = replace(latency_model(excess=0.5), joint=2.0)
    parts = model.prefill(20) + model.steps(4, 20)
    assert model.together(parts).usual_ms == parts.usual_ms
    assert model.together(parts).excess_ms == pytest.approx(2 * parts.excess_ms)


@pytest.mark.parametrize("joint", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bound_on_whole_requests_that_cannot_be_is_refused(joint: float) -> None:
    with pytest.raises(BundleError, match="whole requests"):
        replace(latency_model(), joint=joint)


def test_chunks_are_smaller_where_that_hardly_costs_anything() -> None:
    free, dear = (
        latency_model(chunk_tokens=256),
        replace(latency_model(chunk_tokens=256), chunk=part(5.0, 0.5, *[0.0] * 3)),
    )
    assert free.best_chunk(1000) == 32
    assert dear.best_chunk(1000) == 256
    assert dear.best_chunk(20) == 32, "one chunk is one chunk"
    assert latency_model(chunk_tokens=1).best_chunk(10) == 1
