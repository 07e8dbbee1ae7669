"""The e-process against a clustered miss rate, beside likelihoods found by search."""

import math

import numpy as np
import pytest

from miss_streams import miss_streams, one_run
from phiedge.acceptance.clustered_fail import log_capital_for_clustered_fail


def likelihood(word: str, start: float, again: float) -> float:
    total, before = 0.0, "."
    for letter in word:
        chance = again if before == "x" else start
        total += math.log(chance if letter == "x" else 1 - chance) if 0 < chance < 1 else -math.inf
        before = letter
    return total


def foretold(word: str) -> float:
    counts, total, before = {".": [0.5, 0.5], "x": [0.5, 0.5]}, 0.0, "."
    for letter in word:
        here = counts[before]
        total += math.log(here[letter == "x"] / sum(here))
        here[letter == "x"] += 1
        before = letter
    return total


@pytest.mark.parametrize("word", ["..x...xx....", "xxxx.xx.x.xx", ".x.x.x.x.x.x", "x..xxx.....x"])
@pytest.mark.parametrize("rate", [0.1, 0.4, 0.7])
def test_it_is_the_ratio_that_it_claims_to_be(word: str, rate: float) -> None:
    grid = np.linspace(0.0025, 0.9975, 200)
    best = max(
        likelihood(word, start, again)
        for again in grid
        for start in (min(0.9999, rate * (1 - again) / (1 - rate)), *grid[::8])
        if start * (1 - rate) <= rate * (1 - again) + 1e-12
    )
    missed = np.array([letter == "x" for letter in word])
    found = log_capital_for_clustered_fail(missed, one_run(1, len(word))[0], rate=rate)[-1]
    assert found == pytest.approx(foretold(word) - best, abs=0.05)


def test_clean_requests_win_nothing() -> None:
    clean = np.zeros(500, dtype=np.bool_)
    assert (log_capital_for_clustered_fail(clean, one_run(1, 500)[0], rate=0.01) <= 0.0).all()


def test_one_bad_moment_fails_nobody_but_a_bad_device_fails() -> None:
    first = one_run(1, 1000)[0]
    burst = np.zeros(1000, dtype=np.bool_)
    burst[500:515] = True
    assert log_capital_for_clustered_fail(burst, first, rate=0.01).max() < math.log(20)
    bad = miss_streams(np.random.default_rng(3), 1, 1000, rate=0.2, rho=0.74)[0]
    assert log_capital_for_clustered_fail(bad, first, rate=0.01).max() > math.log(20)
