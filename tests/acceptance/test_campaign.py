"""Whole campaigns on a simulated device: every verdict, and what may go wrong on the way."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from null_requester import FakeClock, NullRequester, QuietWatcher
from phiedge.acceptance import campaign
from phiedge.acceptance.budgets import (
    AccuracyBudget,
    ColdStartBudget,
    JitterBudget,
    LatencyBudget,
    MemoryBudget,
)
from phiedge.acceptance.campaign import Campaign, run_campaign
from phiedge.acceptance.coload import Loads
from phiedge.acceptance.judgement import Judgement, judge
from phiedge.acceptance.spec import Arrival, Spec, Statistics, Workload
from phiedge.acceptance.weakly_hard import WeaklyHard
from phiedge.errors import DeviceError

CLOSED = Arrival(kind="closed", pause_ms=0.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    made = FakeClock()
    made.install(monkeypatch)
    return made


def spec(*, limit_ms: float = 100.0, arrival: Arrival = CLOSED, quantile: float = 0.9, **statistics: Any) -> Spec:
    budget = LatencyBudget(workload="tick", metric="e2e_ms", limit_ms=limit_ms, quantile=quantile)
    return Spec(
        workloads=(Workload(name="tick", prompt="Hi", arrival=arrival),),
        budgets=(budget,),
        statistics=Statistics(warmup_requests=2, **statistics),
    )


def gamma(seed: int, scale: float = 5.0) -> Callable[[int], float]:
    rng = random.Random(seed)
    return lambda number: 20.0 + rng.gammavariate(2.0, scale)


def run(asked: Spec, law: Callable[[int], float], clock: FakeClock, *broken: str) -> tuple[Campaign, Judgement]:
    done = run_campaign(asked, NullRequester(clock, law).open, QuietWatcher(broken=broken))
    return done, judge(asked, done)


@pytest.mark.parametrize("plan", ["fixed", "sequential"])
def test_what_must_pass_passes_and_what_must_fail_fails(clock: FakeClock, plan: str) -> None:
    assert run(spec(plan=plan), gamma(1), clock)[1].verdict == "PASS"
    assert run(spec(plan=plan, limit_ms=22.0), gamma(2), clock)[1].verdict == "FAIL"


def test_a_fixed_plan_takes_what_it_said_and_a_sequential_one_stops_early(clock: FakeClock) -> None:
    fixed, _ = run(spec(allowed_misses=2), gamma(1), clock)
    assert len(fixed.samples["tick"]) == 61
    sequential, _ = run(spec(plan="sequential", max_requests=5000), gamma(1), clock)
    assert len(sequential.samples["tick"]) < 60
    failing, judged = run(spec(plan="sequential", max_requests=5000, limit_ms=1.0), gamma(1), clock)
    assert judged.verdict == "FAIL"
    assert len(failing.samples["tick"]) <= 10


def test_too_few_samples_are_inconclusive_and_say_how_many_would_decide(clock: FakeClock) -> None:
    _, judged = run(spec(plan="sequential", max_requests=10), gamma(1), clock)
    assert judged.verdict == "INCONCLUSIVE"
    assert "more requests would decide (towards PASS)" in judged.reasons[0]


def test_a_disturbed_machine_is_invalid_whatever_it_measured(clock: FakeClock) -> None:
    _, judged = run(spec(), gamma(1), clock, "foreign_cpu_share was 0.4")
    assert (judged.verdict, judged.reasons) == ("INVALID", ("foreign_cpu_share was 0.4",))


@pytest.mark.parametrize(("limit_ms", "verdict"), [(400.0, "PASS"), (36.0, "INVALID"), (10.0, "FAIL")])
def test_a_drift_counts_where_it_could_turn_the_verdict(clock: FakeClock, limit_ms: float, verdict: str) -> None:
    noise = gamma(3, scale=0.5)
    asked = spec(allowed_misses=5, limit_ms=limit_ms)
    _, judged = run(asked, lambda number: noise(number) + 0.1 * number, clock)
    assert judged.verdict == verdict
    assert any("drifted over the run by +" in note for note in judged.notes)
    if verdict == "INVALID":
        assert "with as much again it would be" in judged.reasons[0]


def test_a_cold_beginning_is_noted_with_what_would_help(clock: FakeClock) -> None:
    noise = gamma(3, scale=0.5)
    _, judged = run(spec(allowed_misses=5), lambda number: noise(number) + (9.0 if number < 20 else 0.0), clock)
    assert judged.verdict == "PASS"
    assert any("warmup_requests" in note for note in judged.notes)


def test_an_answer_that_is_not_all_there_misses_and_one_that_is_late_overruns(clock: FakeClock) -> None:
    asked = Spec(
        workloads=(Workload(name="tick", prompt="Hi", arrival=CLOSED, deadline_ms=30.0),),
        budgets=(
            LatencyBudget(workload="*", metric="answer_ms", limit_ms=100.0, quantile=0.9),
            LatencyBudget(workload="*", metric="overrun_ms", limit_ms=20.0, quantile=0.9),
        ),
        statistics=Statistics(allowed_misses=2),
    )
    requester = NullRequester(clock, lambda number: 40.0, finish=lambda number: "deadline" if number % 3 else "stop")
    judged = judge(asked, run_campaign(asked, requester.open, QuietWatcher()))
    assert [one.verdict for one in judged.budgets] == ["FAIL", "PASS"]
    refused = NullRequester(clock, lambda number: 1.0, finish=lambda number: "refused")
    judged = judge(asked, run_campaign(asked, refused.open, QuietWatcher()))
    assert [one.verdict for one in judged.budgets] == ["FAIL", "PASS"]


def test_cancelling_is_judged_by_the_requests_that_were_running(clock: FakeClock) -> None:
    def asked(limit_ms: float) -> Spec:
        return Spec(
            workloads=(Workload(name="tick", prompt="Hi", arrival=CLOSED, cancel_after_ms=50.0),),
            budgets=(LatencyBudget(workload="*", metric="abort_ms", limit_ms=limit_ms, quantile=0.9),),
            statistics=Statistics(warmup_requests=1),
        )

    for limit_ms, verdict in ((9.0, "PASS"), (7.0, "FAIL")):
        requester = NullRequester(clock, lambda number: 30.0, abort_ms=8.0)
        done = run_campaign(asked(limit_ms), requester.open, QuietWatcher())
        judged = judge(asked(limit_ms), done)
        assert judged.verdict == verdict
        strength = judged.budgets[0].strength
        assert strength is not None
        assert 29 <= strength.requests < len(done.samples["tick"])  # about two fifths ended before they were cancelled


@pytest.mark.parametrize(("right", "verdict"), [(0.95, "PASS"), (0.5, "FAIL"), (0.8, "INCONCLUSIVE")])
def test_accuracy_counts_each_case_once_and_only_in_time(clock: FakeClock, right: float, verdict: str) -> None:
    asked = Spec(
        workloads=(Workload(name="quiz", cases="quiz.jsonl", arrival=CLOSED),),
        accuracies=(AccuracyBudget(workload="*", at_least=0.8, limit_ms=100.0),),
        budgets=(LatencyBudget(workload="*", metric="e2e_ms", limit_ms=100.0, quantile=0.9),),
        statistics=Statistics(plan="sequential", max_requests=1000, warmup_requests=0),
    )
    requester = NullRequester(clock, lambda number: 20.0, cases=100, right=lambda case: case % 100 < 100 * right)
    done = run_campaign(asked, requester.open, QuietWatcher(), cases={"quiz": 100})
    judged = judge(asked, done).budgets[1]
    assert judged.verdict == verdict
    assert judged.strength is not None
    assert judged.strength.requests == 100
    assert judged.unit == "share"


def test_right_answers_that_come_too_late_are_wrong(clock: FakeClock) -> None:
    asked = Spec(
        workloads=(Workload(name="quiz", cases="quiz.jsonl", arrival=CLOSED),),
        accuracies=(AccuracyBudget(workload="*", at_least=0.8, limit_ms=15.0),),
        statistics=Statistics(warmup_requests=0),
    )
    requester = NullRequester(clock, lambda number: 20.0, cases=60, right=lambda case: True)
    assert judge(asked, run_campaign(asked, requester.open, QuietWatcher(), cases={"quiz": 60})).verdict == "FAIL"


def test_memory_is_judged_by_its_peak_and_cold_starts_by_their_quantile(clock: FakeClock) -> None:
    asked = Spec(
        workloads=spec().workloads,
        budgets=spec().budgets,
        memory=(
            MemoryBudget(metric="peak_rss_bytes", limit_bytes=100),
            MemoryBudget(metric="gpu_bytes", limit_bytes=9),
        ),
        cold_start=ColdStartBudget(quantile=0.9, limit_ms=500.0),
        statistics=Statistics(allowed_misses=2, warmup_requests=0),
    )
    watcher = QuietWatcher(figures={"elapsed_s": 1.0, "peak_rss_bytes": 101.0, "gpu_bytes": None})
    started: list[float] = []

    def cold_start() -> float:
        started.append(400.0)
        return 400.0

    done = run_campaign(asked, NullRequester(clock, gamma(1)).open, watcher, cold_start=cold_start)
    judged = judge(asked, done)
    assert [one.verdict for one in judged.budgets] == ["PASS", "PASS", "FAIL", "INCONCLUSIVE"]
    assert len(started) == 36  # 29 would do for one budget at 5 %
    assert judged.budgets[2].reason.startswith("0 MiB at most")


def test_a_co_load_that_fell_short_makes_it_invalid(clock: FakeClock) -> None:
    done, _ = run(spec(), gamma(1), clock)
    short = replace(done, loads=Loads(memory_gbps=1.0, short="the co-load copied 1 GB/s, 8 were asked"))
    assert judge(spec(), short).verdict == "INVALID"


def test_latency_counts_from_the_intended_start(clock: FakeClock) -> None:
    """One stall of 500 ms at a period of 50 ms is seen by all requests that it held up, and by one in a closed loop."""

    def stalled(number: int) -> float:
        return 500.0 if number == 10 else 20.0

    periodic, _ = run(spec(arrival=Arrival(kind="periodic", period_ms=50.0)), stalled, clock)
    closed, _ = run(spec(), stalled, clock)
    late = [sum(1 for one in found.samples["tick"] if one.e2e_ms > 100.0) for found in (periodic, closed)]
    assert late[0] >= 10
    assert late[1] == 1


def test_looking_at_a_test_makes_no_request_late(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_look(plan: object, samples: object) -> bool:
        clock.pass_ms(40.0)
        return False

    monkeypatch.setattr(campaign, "decided", slow_look)
    without_slack = spec(plan="sequential", max_requests=60, arrival=Arrival(kind="periodic", period_ms=22.0))
    found, _ = run(without_slack, lambda number: 20.0, clock)
    assert max(one.late_ms for one in found.samples["tick"]) == 0.0


def test_warm_up_is_not_counted_and_restarts_are_marked(clock: FakeClock) -> None:
    requester = NullRequester(clock, gamma(1))
    done = run_campaign(spec(restarts=2), requester.open, QuietWatcher())
    samples = done.samples["tick"]
    assert requester.opened == 3
    assert len(done.opened_ms) == 3
    assert [one.start for one in samples if one.first] == [0, 1, 2]
    assert requester.asked == len(samples) + 3 * 2


def test_clusters_that_were_not_declared_do_not_pass(clock: FakeClock) -> None:
    def bursts(number: int) -> float:
        return 500.0 if number in range(50, 56) else 20.0

    _, judged = run(spec(quantile=0.95, allowed_misses=8), bursts, clock)
    assert judged.verdict == "INCONCLUSIVE"
    assert "clustering" in judged.reasons[0]


def test_weakly_hard_budgets_fail_on_misses_too_close_together(clock: FakeClock) -> None:
    budget = LatencyBudget(
        workload="*", metric="e2e_ms", limit_ms=100.0, quantile=0.9, weakly_hard=WeaklyHard(misses=1, of=10)
    )
    asked = Spec(
        workloads=(Workload(name="tick", prompt="Hi", arrival=CLOSED),),
        budgets=(budget,),
        statistics=Statistics(allowed_misses=5),
    )
    apart, close = {20, 40, 60}, {20, 25, 60}
    assert run(asked, lambda number: 500.0 if number in apart else 20.0, clock)[1].verdict == "PASS"
    assert run(asked, lambda number: 500.0 if number in close else 20.0, clock)[1].verdict == "FAIL"


def test_jitter_is_judged_by_the_bounds_of_two_quantiles(clock: FakeClock) -> None:
    def asked(limit_ms: float) -> Spec:
        jitter = JitterBudget(workload="tick", metric="e2e_ms", limit_ms=limit_ms, quantile=0.9)
        base = spec(allowed_misses=3)
        return Spec(workloads=base.workloads, budgets=base.budgets, jitters=(jitter,), statistics=base.statistics)

    assert run(asked(100.0), gamma(1), clock)[1].budgets[-1].verdict == "PASS"
    assert run(asked(0.1), gamma(1), clock)[1].budgets[-1].verdict == "FAIL"


def test_an_interruption_keeps_what_there_is_and_shows_nothing(clock: FakeClock) -> None:
    def interrupted(number: int) -> float:
        if number == 12:
            raise KeyboardInterrupt
        return 500.0

    done, judged = run(spec(), interrupted, clock)
    assert (done.ended, len(done.samples["tick"])) == ("interrupted", 10)
    assert judged.verdict == "INCONCLUSIVE"


def test_a_device_that_vanishes_makes_it_invalid_and_one_that_never_was_is_an_error(clock: FakeClock) -> None:
    def vanishing(after: int) -> Callable[[int], float]:
        def law(number: int) -> float:
            if number == after:
                raise DeviceError("the device is gone")
            return 20.0

        return law

    done, judged = run(spec(), vanishing(12), clock)
    assert (done.ended, judged.verdict) == ("failed", "INVALID")
    assert "the device is gone" in judged.reasons[0]
    with pytest.raises(DeviceError):
        run(spec(), vanishing(0), clock)
