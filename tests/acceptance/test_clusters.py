"""Clusters of misses: how they are measured, and the trials that are made of them."""

import numpy as np
import numpy.typing as npt
import pytest

from phiedge.acceptance.clusters import (
    block_misses,
    block_rate,
    cluster_trials,
    contradicts,
    measure_clusters,
    start_rate,
)


def bools(word: str) -> npt.NDArray[np.bool_]:
    return np.array([letter == "x" for letter in word])


def test_a_run_of_misses_is_measured() -> None:
    measure = measure_clusters(bools("..xxx..x."), bools("x........"))
    assert (measure.misses, measure.longest_run, measure.after_miss, measure.again) == (4, 3, 4, 2)
    assert measure.rho == 0.5


def test_nothing_is_counted_across_a_restart() -> None:
    measure = measure_clusters(bools("..xx.."), bools("x..x.."))
    assert (measure.longest_run, measure.after_miss, measure.again) == (1, 1, 0)
    assert measure_clusters(bools("..x"), bools("x..")).rho is None


def test_requests_after_a_miss_are_no_trials() -> None:
    assert cluster_trials(bools(".xx.x"), bools("x....")).tolist() == [True, True, False, False, True]
    assert cluster_trials(bools(".xx.x"), bools("x.x..")).tolist() == [True, True, True, False, True]


def test_independent_misses_start_as_often_as_they_come() -> None:
    assert start_rate(0.01, 0.0) == pytest.approx(0.01)
    assert start_rate(0.01, 0.5) == pytest.approx(0.01 * 0.5 / 0.99)


def test_blocks_long_enough_keep_the_rate_and_short_ones_do_not() -> None:
    assert block_rate(0.01, 0.74, 10) == 0.01
    assert block_rate(0.01, 0.74, 2) < 0.01


def test_blocks_do_not_go_across_a_restart() -> None:
    missed, first = bools(".x..x......x"), bools("x....x......")
    assert block_misses(missed, first, 3).tolist() == [True, False, False]
    assert block_misses(missed[:2], first[:2], 3).tolist() == []


def test_more_clustering_than_declared_is_noticed() -> None:
    tight = measure_clusters(bools("xxxxxxxxxx" + "." * 50), bools("x" + "." * 59))
    assert contradicts(tight, 0.3, 0.05)
    assert not contradicts(tight, 0.9, 0.05)
    assert not contradicts(measure_clusters(bools("...."), bools("x...")), 0.01, 0.05)
