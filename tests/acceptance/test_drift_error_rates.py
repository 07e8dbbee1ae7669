"""Machines that drift: what a verdict says of the run holds as often as claimed, and a margin bears a drift."""

import math
from collections import Counter

import numpy as np
import pytest

from benchmarks.simulated_runs import campaign_of, drifting, fixed_spec, limit_at
from phiedge.acceptance.judgement import judge

QUANTILE, ALPHA, REQUESTS, CAMPAIGNS = 0.9, 0.05, 103, 80
ALLOWED = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / CAMPAIGNS)


def verdicts(drift: float, limit_ms: float, campaigns: int = CAMPAIGNS) -> Counter[str]:
    """The share of each verdict among campaigns of a machine that drifts."""
    rng, found = np.random.default_rng(round(100 * drift) % 97), Counter[str]()
    spec = fixed_spec(limit_ms=limit_ms, quantile=QUANTILE, allowed_misses=5)
    for _ in range(campaigns):
        found[judge(spec, campaign_of(drifting(rng, REQUESTS, drift=drift))).verdict] += 1
    return Counter({name: count / campaigns for name, count in found.items()})


@pytest.mark.parametrize("drift", [-0.14, 0.15])
def test_at_the_limit_on_average_a_verdict_is_wrong_as_rarely_as_claimed(drift: float) -> None:
    found = verdicts(drift, limit_at(1 - QUANTILE, REQUESTS, drift=drift))
    assert found["PASS"] <= ALLOWED
    assert found["FAIL"] <= ALLOWED


def test_a_large_drift_passes_no_machine_that_ends_at_its_limit() -> None:
    found = verdicts(0.45, limit_at(1 - QUANTILE, REQUESTS, drift=0.45, ends=True))
    assert found["PASS"] <= ALLOWED
    assert found["INVALID"] > 0.8


@pytest.mark.parametrize("drift", [-0.14, 0.45])
def test_a_margin_that_bears_the_drift_passes_and_a_hopeless_limit_fails(drift: float) -> None:
    assert verdicts(drift, 500.0, 15)["PASS"] == 1.0
    assert verdicts(drift, 20.0, 15)["FAIL"] == 1.0
