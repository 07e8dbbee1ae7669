"""The error rates of both plans are what is claimed, over thousands of simulated campaigns at the very limit.

At the limit a device just keeps its budget, and just does not: a pass there is an error, and so is a fail. The full
campaigns are `benchmarks/acceptance_error_rates.py`.
"""

import math

import numpy as np
import pytest

from miss_streams import miss_streams, one_run
from phiedge.acceptance.claim import Claim, strength
from phiedge.acceptance.clustered_fail import log_capital_for_clustered_fail
from phiedge.acceptance.clusters import cluster_trials, start_rate
from phiedge.acceptance.sequential import log_capital_for_fail, log_capital_for_pass

RATE, ALPHA, CAMPAIGNS, REQUESTS = 0.05, 0.05, 3000, 600
ALLOWED = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / CAMPAIGNS)
RHOS = (None, 0.3, 0.5, 0.74)


def seed(rho: float | None) -> np.random.Generator:
    return np.random.default_rng(20 if rho is None else round(100 * rho))


@pytest.mark.parametrize("rho", RHOS)
def test_a_sequential_pass_is_wrong_as_rarely_as_claimed(rho: float | None) -> None:
    missed = miss_streams(seed(rho), CAMPAIGNS, REQUESTS, rate=RATE, rho=rho)
    trials = cluster_trials(missed, one_run(CAMPAIGNS, REQUESTS)) if rho else np.ones_like(missed)
    capital = log_capital_for_pass(
        trials.cumsum(axis=1), (trials & missed).cumsum(axis=1), rate=start_rate(RATE, rho or 0.0)
    )
    passed = (capital >= math.log(1 / ALPHA)).any(axis=1).mean()
    assert passed <= ALLOWED
    assert passed > ALPHA / 4, "it is so cautious that it wastes samples"


@pytest.mark.parametrize("rho", RHOS)
def test_a_sequential_fail_is_wrong_as_rarely_as_claimed(rho: float | None) -> None:
    missed = miss_streams(seed(rho), CAMPAIGNS, REQUESTS, rate=RATE, rho=rho)
    if rho is None:
        capital = log_capital_for_fail(np.arange(1, REQUESTS + 1), missed.cumsum(axis=1), rate=RATE)
    else:
        capital = log_capital_for_clustered_fail(missed, one_run(CAMPAIGNS, REQUESTS), rate=RATE)
    assert (capital >= math.log(1 / ALPHA)).any(axis=1).mean() <= ALLOWED


@pytest.mark.parametrize(("rho", "block"), [(None, 1), (0.3, 1), (0.5, 1), (0.74, 1), (0.74, 10), (0.74, 4)])
def test_a_fixed_plan_is_wrong_as_rarely_as_claimed(rho: float | None, block: int) -> None:
    claim = Claim(quantile=1 - RATE, alpha=ALPHA, plan="fixed", clustering=rho or 0.0, block_requests=block)
    first = one_run(1, REQUESTS)[0]
    missed = miss_streams(seed(rho), 1000, REQUESTS, rate=RATE, rho=rho)
    found = [strength(claim, run, first) for run in missed]
    allowed = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / len(found))
    assert np.mean([one.p_pass <= ALPHA for one in found]) <= allowed
    assert np.mean([one.p_fail <= ALPHA for one in found]) <= allowed


def test_independent_counting_would_be_wrong_far_more_often() -> None:
    missed = miss_streams(seed(0.74), CAMPAIGNS, REQUESTS, rate=RATE, rho=0.74)
    capital = log_capital_for_pass(np.arange(1, REQUESTS + 1), missed.cumsum(axis=1), rate=RATE)
    assert (capital >= math.log(1 / ALPHA)).any(axis=1).mean() > 5 * ALPHA


def test_running_until_it_passes_would_be_wrong_far_more_often() -> None:
    missed = miss_streams(seed(None), 200, REQUESTS, rate=RATE, rho=None)
    claim = Claim(quantile=1 - RATE, alpha=ALPHA, plan="fixed")
    looks = range(60, REQUESTS, 20)
    first = one_run(1, REQUESTS)[0]
    passed = [any(strength(claim, run[:n], first[:n]).p_pass <= ALPHA for n in looks) for run in missed]
    assert np.mean(passed) > 2 * ALPHA


@pytest.mark.parametrize("rho", RHOS)
def test_a_good_device_passes_and_a_bad_one_fails(rho: float | None) -> None:
    claim = Claim(quantile=1 - RATE, alpha=ALPHA, plan="sequential", clustering=rho or 0.0)
    first = one_run(1, 2000)[0]
    good = miss_streams(seed(rho), 40, 2000, rate=RATE / 10, rho=rho)
    bad = miss_streams(seed(rho), 40, 2000, rate=RATE * 5, rho=rho)
    assert np.mean([strength(claim, run, first).p_pass <= ALPHA for run in good]) > 0.8
    assert np.mean([strength(claim, run, first).p_fail <= ALPHA for run in bad]) > 0.9
