"""Warm-up and drift, with latencies that have a heavy tail."""

import numpy as np
import pytest

from phiedge.acceptance.steadiness import steadiness


def latencies(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 50.0 + rng.gamma(2.0, 1.0, count) + np.where(rng.random(count) < 0.02, 200.0, 0.0)


def test_steady_runs_are_left_alone() -> None:
    found = [steadiness(latencies(300, seed)) for seed in range(200)]
    noticed = [one for one in found if one is None or one.drift is not None or one.early is not None]
    assert len(noticed) <= 3


def test_a_drift_is_measured() -> None:
    found = steadiness(latencies(2500, 1) + np.linspace(0.0, 10.0, 2500))
    assert found is not None
    assert found.drift == pytest.approx(10.0 / found.median, rel=0.2)


def test_a_cold_start_is_noticed() -> None:
    values = latencies(300, 2)
    values[:60] += 15.0
    found = steadiness(values)
    assert found is not None
    assert found.early == pytest.approx(15.0 / found.median, rel=0.2)


def test_equal_latencies_are_steady() -> None:
    found = steadiness(np.full(100, 7.0))
    assert found is not None
    assert (found.drift, found.early) == (None, None)


def test_little_can_be_said_of_few() -> None:
    assert steadiness(latencies(39, 1)) is None


def test_a_change_that_comes_and_goes_is_no_drift_and_still_noticed() -> None:
    values = latencies(500, 3)
    values[200:300] *= 1.5
    found = steadiness(values)
    assert found is not None
    assert found.drift is None
    assert found.swing == pytest.approx(0.5, rel=0.1)
    assert found.change == pytest.approx(0.5, rel=0.1)
