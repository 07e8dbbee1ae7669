import itertools

import pytest

from phiedge.runtime.bench.spread import Spread, repeat


def test_a_spread_has_the_median_the_99th_percentile_and_the_ends() -> None:
    assert Spread.of([float(value) for value in range(200, 0, -1)]) == Spread(
        count=200, least=1.0, p50=100.5, p99=198.0, most=200.0
    )


def test_of_a_hundred_samples_one_may_exceed_p99() -> None:
    assert Spread.of([1.0] * 99 + [50.0]).p99 == 1.0


def test_fewer_than_a_hundred_samples_have_no_99th_percentile() -> None:
    assert Spread.of([1.0] * 99).p99 is None


def test_runs_are_repeated_while_another_would_end_in_time() -> None:
    now_ns = itertools.count(0, 10)  # 10 ns for every look at the clock: a run lasts 10, and starts 20 after the last
    runs = repeat(lambda: "run", at_least=1, at_most=100, until_ns=100, clock_ns=lambda: next(now_ns))
    assert len(runs) == 4


@pytest.mark.parametrize(("at_least", "at_most", "expected"), [(3, 100, 3), (1, 1, 1), (5, 2, 5)])
def test_some_runs_are_made_whatever_the_time_and_never_more_than_allowed(
    at_least: int, at_most: int, expected: int
) -> None:
    runs = repeat(lambda: 0, at_least=at_least, at_most=at_most, until_ns=-1, clock_ns=lambda: 0)
    assert len(runs) == expected
