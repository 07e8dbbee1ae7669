import math
from dataclasses import replace

import pytest

from phiedge.runtime.drift import (
    KNOWN_REQUESTS,
    LEAST_JOINT,
    MOST_STEP,
    NEWEST_SHARE,
    PACE_REQUESTS,
    PATIENCE,
    Drift,
)
from phiedge.runtime.latency_model import Estimate
from timed_engines import latency_model

EXPECTED = Estimate(usual_ms=10.0, excess_ms=1.0)


def seen(*spent_ms: float) -> Drift:
    drift = Drift()
    for ms in spent_ms:
        drift.observe(ms, EXPECTED)
    return drift


def test_before_anything_was_seen_the_profile_is_believed() -> None:
    model = latency_model()
    assert Drift().applied_to(model) == (model, 1.0)


def test_one_disturbed_request_does_not_make_a_slow_machine() -> None:
    drift = seen(*[10.0] * 5, 80.0, *[10.0] * 5)
    assert drift.pace == 1.0
    assert drift.spread == 0.0, "and one of so many may be above"


def test_a_slow_machine_is_noticed_after_a_few_requests() -> None:
    drift = seen(*[20.0] * (PACE_REQUESTS // 2 + 1))
    believed, factor = drift.applied_to(latency_model())
    assert factor == pytest.approx(2.0)
    assert believed.one_step(5).usual_ms == pytest.approx(2 * latency_model().one_step(5).usual_ms)


def test_a_fast_machine_is_not_believed_to_be_faster_than_its_profile_where_something_is_promised() -> None:
    drift = seen(*[5.0] * 20)
    assert drift.pace == 1.0
    assert drift.applied_to(latency_model())[1] == 1.0


def test_what_is_usual_now_follows_the_machine_both_ways() -> None:
    assert Drift().lately == 1.0
    assert seen(*[5.0] * 20).lately == pytest.approx(0.5, rel=0.02)
    assert seen(*[20.0] * 20).lately == pytest.approx(2.0, rel=0.02)
    assert seen(*[20.0] * 20, *[10.0] * 6).lately == pytest.approx(1.0, rel=0.15), "and forgets soon"


def test_one_disturbed_request_moves_what_is_usual_now_only_so_far() -> None:
    assert seen(*[10.0] * 5, 800.0).lately == pytest.approx(math.exp(NEWEST_SHARE * MOST_STEP))


def test_pauses_that_come_again_widen_what_is_allowed() -> None:
    drift = seen(*([10.0] * 8 + [14.0]) * 5)
    assert drift.pace == 1.0
    assert drift.spread == pytest.approx(4.0)
    assert drift.applied_to(latency_model())[0].joint == pytest.approx(4.0)


def test_a_profile_that_is_too_careful_is_found_out_by_many_requests() -> None:
    careful = replace(latency_model(), joint=5.0)
    assert seen(*[10.0] * KNOWN_REQUESTS).applied_to(careful)[0].joint == 5.0
    assert seen(*[10.0] * (KNOWN_REQUESTS + PACE_REQUESTS)).applied_to(careful)[0].joint == LEAST_JOINT


def test_what_was_slow_for_all_requests_alike_is_not_spread() -> None:
    assert seen(*[20.0] * 60).spread == pytest.approx(0.0)


def test_refusals_for_what_was_seen_make_it_forgotten_step_by_step() -> None:
    drift = seen(*[30.0] * PACE_REQUESTS)
    for _ in range(PATIENCE):
        drift.refused(also_by_profile=False)
    assert drift.pace == pytest.approx(2.0)
    drift.observe(30.0, EXPECTED)
    assert drift.pace == pytest.approx(3.0), "what is seen again is believed again"


def test_pauses_that_everything_was_refused_for_are_not_held_against_what_is_admitted_then() -> None:
    drift = seen(*([10.0] * 20 + [60.0]) * 2, *[10.0] * 20)
    assert drift.spread == pytest.approx(50.0)
    refused = 0
    for _ in range(100):
        drift.refused(also_by_profile=False)
        refused += 1
        if drift.spread < 2.0:
            break
    assert refused == 5 * PATIENCE
    drift.observe(10.0, EXPECTED)
    assert drift.spread < 2.0, "one that was as fast as ever does not bring the pauses back"
    for ms in ([10.0] * 20 + [60.0]) * 2 + [10.0] * 20:
        drift.observe(ms, EXPECTED)
    assert drift.spread == pytest.approx(50.0), "but they do when they come again"


def test_refusals_that_the_profile_is_to_blame_for_change_nothing() -> None:
    drift = seen(*[30.0] * PACE_REQUESTS)
    for _ in range(10 * PATIENCE):
        drift.refused(also_by_profile=True)
    assert drift.pace == pytest.approx(3.0)


def test_a_request_that_should_take_nothing_tells_nothing() -> None:
    drift = Drift()
    drift.observe(5.0, Estimate(usual_ms=0.0, excess_ms=0.0))
    assert drift.pace == 1.0
