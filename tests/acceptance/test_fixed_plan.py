"""Plans against the published tables of sample sizes, and bounds of quantiles."""

import pytest

from phiedge.acceptance.fixed_plan import allowed_misses, failing_misses, fixed_plan, quantile_bounds, smallest_trials
from phiedge.errors import UsageError

# MLPerf LoadGen's floors (90 %: 64 and 99 %: 662 at 99 % confidence with one miss) are among them.
SIZES = {
    (0.1, 0.05): (29, 46, 61, 76),
    (0.1, 0.01): (44, 64, 81, 97),
    (0.01, 0.05): (299, 473, 628, 773),
    (0.01, 0.01): (459, 662, 838, 1001),
    (0.001, 0.05): (2995, 4742, 6294, 7752),
}


@pytest.mark.parametrize(("rates", "sizes"), SIZES.items())
def test_sizes_are_the_known_ones(rates: tuple[float, float], sizes: tuple[int, ...]) -> None:
    found = tuple(smallest_trials(rate=rates[0], alpha=rates[1], allowed_misses=misses) for misses in range(4))
    assert found == sizes


def test_allowed_misses_and_sizes_agree() -> None:
    assert [allowed_misses(n, rate=0.01, alpha=0.05) for n in (298, 299, 472, 473, 1000, 10_000)] == [
        None,
        0,
        0,
        1,
        4,
        83,
    ]


def test_between_pass_and_fail_lies_a_gap() -> None:
    plan = fixed_plan(rate=0.01, alpha=0.05, allowed_misses=2)
    assert (plan.trials, plan.allowed_misses) == (628, 2)
    assert plan.failing_misses > 6  # the expected number at the limit


def test_too_few_trials_can_fail_nobody() -> None:
    assert failing_misses(0, rate=0.01, alpha=0.05) == 1
    assert failing_misses(1, rate=0.2, alpha=0.05) == 2


def test_bounds_of_a_quantile_are_samples() -> None:
    samples = [float(value) for value in range(1000)]
    bounds = quantile_bounds(samples, quantile=0.99, alpha=0.05)
    assert bounds.upper == 995.0  # the fifth largest: four may lie above
    assert bounds.lower is not None
    assert 980.0 <= bounds.lower < 990.0


def test_few_samples_bound_nothing() -> None:
    assert quantile_bounds([], quantile=0.99, alpha=0.05).upper is None
    assert quantile_bounds([1.0] * 298, quantile=0.99, alpha=0.05).upper is None
    assert quantile_bounds([1.0] * 299, quantile=0.99, alpha=0.05).upper == 1.0


@pytest.mark.parametrize(
    ("rate", "alpha", "misses"), [(0.0, 0.05, 0), (1.0, 0.05, 0), (0.01, 0.0, 0), (0.01, 0.05, -1)]
)
def test_impossible_plans_are_refused(rate: float, alpha: float, misses: int) -> None:
    with pytest.raises(UsageError):
        fixed_plan(rate=rate, alpha=alpha, allowed_misses=misses)


def test_a_plan_beyond_reason_is_refused() -> None:
    with pytest.raises(UsageError, match="more than 100,000,000 samples"):
        smallest_trials(rate=1e-9, alpha=0.05, allowed_misses=0)
