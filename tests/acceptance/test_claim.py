"""Claims: what is counted as a trial, and how many more requests would decide."""

import numpy as np
import pytest

from miss_streams import one_run
from phiedge.acceptance.claim import Claim, More, more_requests, strength


def run(requests: int, *misses: int) -> tuple[np.ndarray, np.ndarray]:
    missed = np.zeros(requests, dtype=np.bool_)
    missed[list(misses)] = True
    return missed, one_run(1, requests)[0]


def more(claim: Claim, *of: int) -> More | None:
    return more_requests(claim, strength(claim, *run(*of)))


def test_a_fixed_plan_passes_at_its_size_and_not_before() -> None:
    claim = Claim(quantile=0.99, alpha=0.05, plan="fixed")
    assert strength(claim, *run(299)).p_pass <= 0.05 < strength(claim, *run(298)).p_pass
    assert strength(claim, *run(628, 7, 300)).p_pass <= 0.05


def test_declared_clusters_cost_samples() -> None:
    claim = Claim(quantile=0.99, alpha=0.05, plan="fixed", clustering=0.74)
    assert strength(claim, *run(1100)).p_pass > 0.05
    assert strength(claim, *run(1160)).p_pass <= 0.05


def test_a_cluster_is_one_trial_that_missed() -> None:
    found = strength(Claim(quantile=0.99, alpha=0.05, plan="fixed", clustering=0.74), *run(100, 10, 11, 12, 50))
    assert (found.misses, found.missed_trials, found.trials) == (4, 2, 96)
    assert not found.contradicted


def test_clusters_that_were_not_declared_are_a_contradiction() -> None:
    assert strength(Claim(quantile=0.99, alpha=0.05, plan="fixed"), *run(1000, 10, 11, 12)).contradicted


def test_a_fixed_plan_asks_for_a_new_run_and_a_sequential_one_for_more() -> None:
    fixed = more(Claim(quantile=0.99, alpha=0.05, plan="fixed"), 100)
    assert fixed is not None
    assert (fixed.requests, fixed.fresh, fixed.towards) == (299, True, "PASS")
    sequential = more(Claim(quantile=0.99, alpha=0.05, plan="sequential"), 100)
    assert sequential is not None
    assert not sequential.fresh
    assert 200 < sequential.requests < 300


def test_blocks_are_asked_for_in_requests() -> None:
    found = more(Claim(quantile=0.9, alpha=0.05, plan="fixed", block_requests=10), 100)
    assert found is not None
    assert found.requests == 290


def test_a_device_that_misses_now_and_then_needs_a_larger_plan() -> None:
    found = more(Claim(quantile=0.99, alpha=0.05, plan="fixed"), 500, 100, 400)
    assert found is not None
    assert 628 < found.requests < 2000
    assert more(Claim(quantile=0.99, alpha=0.05, plan="fixed"), 100, 30) is None


def test_no_request_at_all_says_nothing() -> None:
    for plan in ("fixed", "sequential"):
        found = strength(Claim(quantile=0.9, alpha=0.05, plan=plan), *run(0))
        assert (found.p_pass, found.p_fail) == (1.0, 1.0)


@pytest.mark.parametrize("clustering", [0.0, 0.5])
@pytest.mark.parametrize("plan", ["fixed", "sequential"])
def test_many_misses_speak_against_it(plan: str, clustering: float) -> None:
    claim = Claim(quantile=0.99, alpha=0.05, plan=plan, clustering=clustering)
    assert strength(claim, *run(300, *range(0, 300, 7))).p_fail <= 0.05
