"""Plans of a fixed size: how many samples, and how many of them may miss, to claim a quantile with a confidence.

"The 99 % quantile is at most 300 ms, at 95 % confidence" holds of n independent samples of which at most k are above
300 ms, if so few would have a probability of at most 5 % at a miss rate of 1 %. No shape of the distribution is assumed
(order statistics; Clopper and Pearson 1934). The size is chosen before anything is measured: to go on until it passes
is another test, with far more errors; for that there is `sequential`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from phiedge.acceptance.binomial import at_least, at_most
from phiedge.errors import UsageError

MOST_TRIALS = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPlan:
    """`trials` of which at most `allowed_misses` may miss; `failing_misses` or more show that the rate is exceeded."""

    trials: int
    allowed_misses: int
    failing_misses: int


def fixed_plan(*, rate: float, alpha: float, allowed_misses: int) -> FixedPlan:
    """The smallest plan that shows a miss rate of at most `rate` with errors of at most `alpha`."""
    _check(rate, alpha)
    if allowed_misses < 0:
        raise UsageError(f"allowed misses must be 0 or more, not {allowed_misses}")
    trials = smallest_trials(rate=rate, alpha=alpha, allowed_misses=allowed_misses)
    failing = failing_misses(trials, rate=rate, alpha=alpha)
    return FixedPlan(trials=trials, allowed_misses=allowed_misses, failing_misses=failing)


def smallest_trials(*, rate: float, alpha: float, allowed_misses: int) -> int:
    """The least number of trials in which `allowed_misses` misses still show a rate of at most `rate`."""
    _check(rate, alpha)
    low, high = allowed_misses, max(1, 2 * allowed_misses)
    while at_most(allowed_misses, high, rate) > alpha:
        low, high = high, 2 * high
        if high > MOST_TRIALS:
            raise UsageError(
                f"a miss rate of {rate:g} with {allowed_misses} misses takes more than {MOST_TRIALS:,} samples",
                remedy="lower the quantile or the confidence",
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at_most(allowed_misses, middle, rate) > alpha else (low, middle)
    return high


def allowed_misses(trials: int, *, rate: float, alpha: float) -> int | None:
    """The most misses with which `trials` still show a rate of at most `rate`; None if even none are too many."""
    _check(rate, alpha)
    if at_most(0, trials, rate) > alpha:
        return None
    low, high = 0, trials
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at_most(middle, trials, rate) <= alpha else (low, middle)
    return low


def failing_misses(trials: int, *, rate: float, alpha: float) -> int:
    """The fewest misses that show a rate above `rate`; `trials + 1` if there are too few trials to show it."""
    _check(rate, alpha)
    low, high = 0, trials + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at_least(middle, trials, rate) <= alpha else (middle, high)
    return high


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantileBounds:
    """What the quantile lies between, each side with errors of at most alpha; None where there are too few samples."""

    lower: float | None
    upper: float | None


def quantile_bounds(samples: Sequence[float], *, quantile: float, alpha: float) -> QuantileBounds:
    """Bounds of a quantile, which are two of the samples themselves (order statistics, independent samples)."""
    ordered, trials, rate = sorted(samples), len(samples), 1.0 - quantile
    above = allowed_misses(trials, rate=rate, alpha=alpha) if trials else None
    below = failing_misses(trials, rate=rate, alpha=alpha)
    return QuantileBounds(
        lower=ordered[trials - below] if 0 < below <= trials else None,
        upper=None if above is None else ordered[trials - 1 - above],
    )


def _check(rate: float, alpha: float) -> None:
    if not 0.0 < rate < 1.0:
        raise UsageError(f"a miss rate must lie between 0 and 1, not {rate:g}")
    if not 0.0 < alpha < 1.0:
        raise UsageError(f"an error rate must lie between 0 and 1, not {alpha:g}")
