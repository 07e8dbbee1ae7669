import numpy as np
import pytest

from phiedge.runtime.latency_model import chunk_features, vision_features
from phiedge.runtime.profile.fitting import allowed_above, fit_part, nonnegative_fit, run_excess, upper_bound


@pytest.mark.parametrize(
    ("count", "quantile", "above"),
    [
        (298, 0.99, None), (299, 0.99, 0), (500, 0.99, 1), (1000, 0.99, 4), (2000, 0.99, 12), (5000, 0.99, 38),
        (2994, 0.999, None), (2995, 0.999, 0), (10_000, 0.999, 4), (28, 0.9, None), (29, 0.9, 0), (1, 0.5, None),
    ],
)  # fmt: skip
def test_so_many_may_lie_above_a_bound_with_95_percent(count: int, quantile: float, above: int | None) -> None:
    assert allowed_above(count, quantile) == above


def test_very_many_samples_do_not_underflow() -> None:
    assert allowed_above(100_000, 0.99) == 948


def test_the_bound_covers_its_quantile_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    bounds = [upper_bound(random.exponential(size=400))[1] for _ in range(400)]
    covered = np.mean([bound >= -np.log(1 - 0.99) for bound in bounds])
    assert covered >= 0.93


@pytest.mark.parametrize(("count", "quantile"), [(1, 0.0), (5, 0.5), (29, 0.9), (59, 0.95), (299, 0.99), (2995, 0.999)])
def test_few_samples_tell_of_a_lower_quantile_only(count: int, quantile: float) -> None:
    assert upper_bound([1.0] * count) == (quantile, 1.0)


def test_coefficients_are_found_again() -> None:
    points = np.array([chunk_features(t, s) for t in (1, 16, 64, 256) for s in (0, 512, 3000)])
    wanted = np.array([0.1, 0.03, 0.0, 2e-4, 3e-5])
    np.testing.assert_allclose(nonnegative_fit(points, points @ wanted), wanted, rtol=1e-6, atol=1e-12)


def test_no_coefficient_is_below_zero() -> None:
    points = np.array([vision_features(p) for p in (64, 128, 256)])
    found = nonnegative_fit(points, np.array([9.0, 5.0, 2.0]))
    assert (found >= 0).all()
    assert found[0] > 0


def test_a_part_tells_its_median_and_its_worst() -> None:
    part = fit_part({(1.0, 10.0): [10.0, 10.0, 13.0], (1.0, 20.0): [20.0, 20.0, 26.0], (1.0, 30.0): []})
    assert part.usual_ms((1.0, 40.0)) == pytest.approx(40.0)
    assert (part.samples, part.quantile, part.scale_ms) == (6, 0.5, pytest.approx(15.0))
    assert part.high_ms((1.0, 20.0)) >= 23.0


def test_many_tokens_together_spread_less() -> None:
    excess, quantile = run_excess({(1.0, 0.0): [100.0] * 28 + [110.0], (1.0, 500.0): [200.0] * 30})
    assert (round(excess, 3), quantile) == (0.1, 0.95)


def test_tokens_are_fitted_to_their_runs_and_spread_as_they_are() -> None:
    part = fit_part({(1.0,): [1.0, 1.0, 1.0, 5.0]}, centres={(1.0,): [2.0]})
    assert part.usual_ms((1.0,)) == pytest.approx(2.0)
    assert part.high_ms((1.0,)) == pytest.approx(5.0)
