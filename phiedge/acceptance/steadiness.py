"""Whether a run was steady: neither still warming up at its start nor drifting all along.

Samples of a machine that changes are no samples of one machine. How large the change is tells which verdicts bear it
(`judgement`). All tests are by ranks, so that a heavy tail neither hides a change nor looks like one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_CERTAIN = 0.001  # each test is made at this error rate: they must not spoil good runs
_MOST_POINTS = 1000  # pairs of points are compared; more are put together as medians of neighbours
_LEAST_SAMPLES = 40
_EARLY_SHARE = 0.2
_PARTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """Changes as shares of the median. `drift` is that over the whole run, `early` that of its first fifth, `swing` the
    largest by which the median of a fifth differs; each is None where it cannot be told from chance."""

    median: float
    drift: float | None
    early: float | None
    swing: float | None

    @property
    def change(self) -> float:
        """The largest of them, whichever way it went; 0 of a steady run."""
        return max((abs(share) for share in (self.drift, self.early, self.swing) if share is not None), default=0.0)


def steadiness(latencies: Floats) -> Steadiness | None:
    """What can be said about `latencies` [n], in the order in which they were measured; None of too few."""
    if latencies.size < _LEAST_SAMPLES:
        return None
    median = float(np.median(latencies))
    if median <= 0.0:
        return Steadiness(median=median, drift=None, early=None, swing=None)
    return Steadiness(
        median=median,
        drift=_drift(latencies, median),
        early=_early(latencies, median),
        swing=_swing(latencies, median),
    )


def _drift(latencies: Floats, median: float) -> float | None:
    """Mann and Kendall's test of a trend, with Sen's slope."""
    points = _thinned(latencies)
    count = points.size
    later, earlier = np.triu_indices(count, k=1)[::-1]
    signs = np.sign(points[later] - points[earlier])
    variance = count * (count - 1) * (2 * count + 5) / 18.0 - _tied(points, lambda size: 2 * size + 5) / 18.0
    if variance <= 0.0 or _two_sided(float(signs.sum()) / math.sqrt(variance)) > _CERTAIN:
        return None
    slope = float(np.median((points[later] - points[earlier]) / (later - earlier)))
    return slope * (count - 1) / median


def _early(latencies: Floats, median: float) -> float | None:
    """Mann and Whitney's test of the first fifth against the rest."""
    first = int(latencies.size * _EARLY_SHARE)
    rest = latencies.size - first
    ranks = _ranks(latencies)
    statistic = float(ranks[:first].sum()) - first * (first + 1) / 2.0
    total = latencies.size
    ties = _tied(latencies, lambda size: size + 1) / (total * (total - 1))
    variance = first * rest * (total + 1 - ties) / 12.0
    if variance <= 0.0 or _two_sided((statistic - first * rest / 2.0) / math.sqrt(variance)) > _CERTAIN:
        return None
    return float(np.median(latencies[:first]) - np.median(latencies[first:])) / median


def _swing(latencies: Floats, median: float) -> float | None:
    """Kruskal and Wallis's test of the fifths, as a change that comes and goes is no trend."""
    parts = np.array_split(_ranks(latencies), _PARTS)
    total = latencies.size
    spread = sum(part.size * (float(part.mean()) - (total + 1) / 2) ** 2 for part in parts)
    ties = 1.0 - _tied(latencies, lambda size: size + 1) / (total * (total - 1) * (total + 1))
    if ties <= 0.0:
        return None
    statistic = 12.0 * spread / (total * (total + 1)) / ties
    # The tail of chi squared with 4 degrees of freedom.
    if math.exp(-statistic / 2) * (1 + statistic / 2) > _CERTAIN:
        return None
    shares = [float(np.median(part)) / median - 1.0 for part in np.array_split(latencies, _PARTS)]
    return max(shares, key=abs)


def _thinned(values: Floats) -> Floats:
    if values.size <= _MOST_POINTS:
        return values
    return np.array([np.median(part) for part in np.array_split(values, _MOST_POINTS)])


def _ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    shared: Floats = (ends - (counts - 1) / 2.0)[place]
    return shared


def _tied(values: Floats, factor: Callable[[Floats], Floats]) -> float:
    sizes = np.unique(values, return_counts=True)[1].astype(np.float64)
    return float((sizes * (sizes - 1) * factor(sizes)).sum())


def _two_sided(normal: float) -> float:
    return math.erfc(abs(normal) / math.sqrt(2.0))
