"""Exact probabilities of the binomial distribution, and bounds of a rate, with the standard library alone.

A tail is its largest term, from `math.lgamma`, times the sum of the ratios of neighbouring terms; that keeps the
relative accuracy of small tails, which is what plans are read from.
"""

import math
from collections.abc import Callable

_SMALLEST = 1e-17  # relative: terms below add nothing to a double


def at_most(misses: int, trials: int, rate: float) -> float:
    """P[X <= misses] for X the number of misses in `trials` independent ones that miss at `rate`."""
    _check(trials, rate)
    if misses < 0:
        return 0.0
    if misses >= trials or rate == 0.0:
        return 1.0
    if rate == 1.0:
        return 0.0
    if misses > trials * rate:
        return max(0.0, 1.0 - _tail_up(misses + 1, trials, rate))
    return min(1.0, _tail_down(misses, trials, rate))


def at_least(misses: int, trials: int, rate: float) -> float:
    """P[X >= misses]."""
    _check(trials, rate)
    if misses <= 0:
        return 1.0
    if misses > trials or rate == 0.0:
        return 0.0
    if rate == 1.0:
        return 1.0
    if misses < trials * rate:
        return max(0.0, 1.0 - _tail_down(misses - 1, trials, rate))
    return min(1.0, _tail_up(misses, trials, rate))


def highest_rate(misses: int, trials: int, alpha: float) -> float:
    """The upper bound of Clopper and Pearson: above it, so few misses have a probability below `alpha`."""
    if misses >= trials:
        return 1.0
    return _bisect(lambda rate: at_most(misses, trials, rate) > alpha)


def lowest_rate(misses: int, trials: int, alpha: float) -> float:
    """The lower bound of Clopper and Pearson: below it, so many misses have a probability below `alpha`."""
    if misses <= 0:
        return 0.0
    return _bisect(lambda rate: at_least(misses, trials, rate) <= alpha)


def _tail_down(misses: int, trials: int, rate: float) -> float:
    odds = (1.0 - rate) / rate
    term, ratios = 1.0, [1.0]
    for count in range(misses, 0, -1):
        term *= odds * count / (trials - count + 1)
        ratios.append(term)
        if term < _SMALLEST:
            break
    return math.exp(_log_term(misses, trials, rate)) * math.fsum(ratios)


def _tail_up(misses: int, trials: int, rate: float) -> float:
    odds = rate / (1.0 - rate)
    term, ratios = 1.0, [1.0]
    for count in range(misses, trials):
        term *= odds * (trials - count) / (count + 1)
        ratios.append(term)
        if term < _SMALLEST:
            break
    return math.exp(_log_term(misses, trials, rate)) * math.fsum(ratios)


def _log_term(misses: int, trials: int, rate: float) -> float:
    ways = math.lgamma(trials + 1) - math.lgamma(misses + 1) - math.lgamma(trials - misses + 1)
    return ways + misses * math.log(rate) + (trials - misses) * math.log1p(-rate)


def _bisect(below: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return high


def _check(trials: int, rate: float) -> None:
    assert trials >= 0, trials
    assert 0.0 <= rate <= 1.0, rate
