"""The sequential test: when it stops, and how many more samples it asks for."""

import math

import numpy as np
import pytest

from phiedge.acceptance.sequential import log_capital_for_fail, log_capital_for_pass, more_trials

ENOUGH = math.log(1 / 0.05)


def test_it_starts_with_nothing_won() -> None:
    none = np.zeros(1, dtype=np.int64)
    assert log_capital_for_pass(none, none, rate=0.01)[0] == pytest.approx(0.0, abs=1e-12)
    assert log_capital_for_fail(none, none, rate=0.01)[0] == pytest.approx(0.0, abs=1e-12)


def test_a_clean_device_passes_after_a_few_hundred_samples() -> None:
    trials = np.arange(1000)
    capital = log_capital_for_pass(trials, np.zeros_like(trials), rate=0.01)
    assert 299 < np.argmax(capital >= ENOUGH) < 400


def test_a_device_that_always_misses_fails_at_once() -> None:
    trials = np.arange(100)
    assert np.argmax(log_capital_for_fail(trials, trials, rate=0.01) >= ENOUGH) <= 3


@pytest.mark.parametrize("true_rate", [0.0, 0.003, 0.01, 0.05, 0.5])
def test_the_bet_is_fair_or_worse_where_its_hypothesis_holds(true_rate: float) -> None:
    after = np.array([1, 1]), np.array([0, 1])
    chances = np.array([1 - true_rate, true_rate])
    if true_rate >= 0.01:
        assert (chances * np.exp(log_capital_for_pass(*after, rate=0.01))).sum() <= 1 + 1e-12
    if true_rate <= 0.01:
        assert (chances * np.exp(log_capital_for_fail(*after, rate=0.01))).sum() <= 1 + 1e-12


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.5, 0.9])
def test_every_limit_has_rates_above_it(rate: float) -> None:
    trials = np.array([3000])
    assert log_capital_for_fail(trials, trials, rate=rate)[0] >= ENOUGH


def test_the_number_of_further_trials_is_that_which_decides() -> None:
    more = more_trials(100, 0, rate=0.01, alpha=0.05, further_rate=0.0, most=10_000)
    assert more is not None
    total = np.array([100 + more])
    assert log_capital_for_pass(total, np.zeros(1, dtype=np.int64), rate=0.01)[0] >= ENOUGH
    assert log_capital_for_pass(total - 2, np.zeros(1, dtype=np.int64), rate=0.01)[0] < ENOUGH
    assert more_trials(100, 5, rate=0.01, alpha=0.05, further_rate=0.05, most=10_000) is not None
    assert more_trials(100, 1, rate=0.01, alpha=0.05, further_rate=0.01, most=10_000) is None
    assert more_trials(100, 0, rate=0.01, alpha=0.05, further_rate=0.0, most=50) is None
