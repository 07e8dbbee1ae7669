"""Binomial tails against exact rational arithmetic and published bounds."""

import math
from fractions import Fraction

import pytest

from phiedge.acceptance.binomial import at_least, at_most, highest_rate, lowest_rate


def exact_at_most(misses: int, trials: int, rate: Fraction) -> Fraction:
    return sum(
        (math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(misses + 1)), start=Fraction(0)
    )


@pytest.mark.parametrize(("trials", "rate"), [(1, "1/2"), (20, "1/20"), (300, "1/100"), (628, "1/100"), (90, "9/10")])
def test_tails_are_those_of_exact_arithmetic(trials: int, rate: str) -> None:
    exact = Fraction(rate)
    for misses in range(min(trials, 40)):
        lower = exact_at_most(misses, trials, exact)
        assert at_most(misses, trials, float(exact)) == pytest.approx(float(lower), rel=1e-10)
        upper = 1 - exact_at_most(misses - 1, trials, exact)
        assert at_least(misses, trials, float(exact)) == pytest.approx(float(upper), rel=1e-10)


def test_a_tail_far_out_keeps_its_relative_accuracy() -> None:
    assert at_most(0, 20_000, 0.01) == pytest.approx(math.exp(20_000 * math.log1p(-0.01)), rel=1e-10)
    assert at_least(300, 300, 0.1) == pytest.approx(1e-300, rel=1e-9)


def test_the_ends_are_certain() -> None:
    assert at_most(-1, 5, 0.3) == 0.0
    assert at_most(5, 5, 0.3) == 1.0
    assert at_least(0, 5, 0.3) == 1.0
    assert at_least(6, 5, 0.3) == 0.0
    assert (at_most(0, 5, 0.0), at_most(4, 5, 1.0)) == (1.0, 0.0)
    assert (at_least(1, 5, 0.0), at_least(5, 5, 1.0)) == (0.0, 1.0)


def test_bounds_are_those_of_clopper_and_pearson() -> None:
    # Zero of n: the "rule of three", exactly 1 - alpha ** (1 / n); 4 of 20 at 95 % two-sided is in many textbooks.
    assert highest_rate(0, 299, 0.05) == pytest.approx(1 - 0.05 ** (1 / 299), rel=1e-9)
    assert lowest_rate(4, 20, 0.025) == pytest.approx(0.0573, abs=5e-5)
    assert highest_rate(4, 20, 0.025) == pytest.approx(0.4366, abs=5e-5)
    assert (lowest_rate(0, 9, 0.05), highest_rate(9, 9, 0.05)) == (0.0, 1.0)
