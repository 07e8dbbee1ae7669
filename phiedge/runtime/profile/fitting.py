"""From samples to a part of the latency model: coefficients, and how far above them samples lie.

Coefficients are fitted to the median at each point, relative to it, with none below zero; medians, because what
disturbs a sample only ever makes it longer. The excess is an order statistic of all samples: of n independent ones, the
(k+1)-th largest is above the p-quantile with confidence c where P[Binomial(n, 1-p) <= k] <= 1-c.
"""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from phiedge.runtime.latency_model import PartModel

CONFIDENCE = 0.95
QUANTILES = (0.999, 0.99, 0.95, 0.9, 0.75, 0.5)

Samples = Mapping[tuple[float, ...], Sequence[float]]
"""Milliseconds by the features of the point where they were measured."""


def fit_part(samples: Samples, *, centres: Samples | None = None) -> PartModel:
    """The model of one part from at least one sample at one point.

    Coefficients are fitted to `centres` where they are given: for tokens, of which many always come together, the means
    of runs, as what disturbs one in ten of them is usual for the run and not in the median of one.
    """
    fitted = samples if centres is None else centres
    points = [point for point, found in fitted.items() if found]
    medians = np.array([statistics.median(fitted[point]) for point in points])
    coefficients = nonnegative_fit(np.array(points), medians)
    usual = {point: float(np.dot(coefficients, point)) for point, found in samples.items() if found}
    scale_ms = float(np.median(list(usual.values())))
    excesses = [max(0.0, ms - usual[point]) / (usual[point] + scale_ms) for point in usual for ms in samples[point]]
    quantile, excess = upper_bound(excesses)
    return PartModel(
        coefficients=tuple(map(float, coefficients)),
        scale_ms=scale_ms,
        excess=excess,
        quantile=quantile,
        confidence=CONFIDENCE,
        samples=len(excesses),
    )


def run_excess(runs: Samples) -> tuple[float, float]:
    """By how much many tokens together lie above what they take usually, relatively; and the quantile of that."""
    usual = {point: statistics.median(found) for point, found in runs.items()}
    excesses = [max(0.0, ms / usual[point] - 1) for point, found in runs.items() for ms in found]
    quantile, excess = upper_bound(excesses)
    return excess, quantile


def nonnegative_fit(features: npt.NDArray[np.float64], times_ms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The coefficients, none below zero, with the least squares of relative errors.

    With at most five features the best of all subsets can be tried: the least squares without a constraint that happen
    to keep it.
    """
    relative = features / times_ms[:, None]
    width = features.shape[1]
    best, least = np.zeros(width), math.inf
    for size in range(1, width + 1):
        for chosen in map(list, itertools.combinations(range(width), size)):
            # Columns differ by many orders of magnitude: a constant beside the square of patches.
            norms = np.linalg.norm(relative[:, chosen], axis=0)
            if not norms.all():
                continue
            found = np.linalg.lstsq(relative[:, chosen] / norms, np.ones(len(times_ms)), rcond=None)[0] / norms
            if (found < 0).any():
                continue
            error = float(np.square(relative[:, chosen] @ found - 1).sum())
            if error < least - 1e-12:
                best, least = np.zeros(width), error
                best[chosen] = found
    return best


def upper_bound(values: Sequence[float], *, quantile: float | None = None) -> tuple[float, float]:
    """A quantile and a value that it is below with `CONFIDENCE`: the highest quantile that so many values allow.

    With too few values for any, the quantile is 0 and the value the largest.
    """
    ordered = sorted(values, reverse=True)
    for level in QUANTILES if quantile is None else (quantile,):
        above = allowed_above(len(ordered), level)
        if above is not None:
            return level, ordered[above]
    return 0.0, ordered[0]


def allowed_above(count: int, quantile: float) -> int | None:
    """How many of `count` values may lie above a bound on `quantile`; None if there are too few to tell any."""
    cumulated, most = 0.0, None
    for above in range(count):
        cumulated += math.exp(
            math.lgamma(count + 1)
            - math.lgamma(above + 1)
            - math.lgamma(count - above + 1)
            + above * math.log(1 - quantile)
            + (count - above) * math.log(quantile)
        )
        if cumulated > 1 - CONFIDENCE:
            break
        most = above
    return most
