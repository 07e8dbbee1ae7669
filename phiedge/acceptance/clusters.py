"""Misses that come in clusters: how much they do, and trials made of requests that may be counted as independent.

On devices a miss is often followed by another (a clock dropped, a page was written), and plans for independent samples
then pass far too much. The model here is the simplest that has it: a miss is followed by a miss with probability rho,
and a clean request by a miss with probability a, so that the miss rate is a / (a + 1 - rho). Two ways lead to
trials that hold for every rho up to a declared one:

- count the *starts* of clusters, among the requests that follow a clean one: those are independent, at rate a;
- take *blocks* of requests as trials, which miss if any request in them does: whatever happens inside a block.

Arrays of requests are bool [..., n], in order; `first` marks the first request after each restart.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phiedge.acceptance.binomial import at_least

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterMeasure:
    """How misses lie. `after_miss` requests followed a miss, `again` of them missed, too; `rho` is their ratio."""

    requests: int
    misses: int
    longest_run: int
    after_miss: int
    again: int

    @property
    def rho(self) -> float | None:
        """P(miss | previous miss) as seen; None if nothing followed a miss."""
        return self.again / self.after_miss if self.after_miss else None


def measure_clusters(missed: Bools, first: Bools) -> ClusterMeasure:
    """Count how the misses of one run lie; nothing is counted across a restart."""
    before = _previous(missed, first)
    longest = run = 0
    for miss, restarted in zip(missed.tolist(), first.tolist(), strict=True):
        run = (0 if restarted else run) + 1 if miss else 0
        longest = max(longest, run)
    return ClusterMeasure(
        requests=missed.size,
        misses=int(missed.sum()),
        longest_run=longest,
        after_miss=int(before.sum()),
        again=int((before & missed).sum()),
    )


def cluster_trials(missed: Bools, first: Bools) -> Bools:
    """Which requests are trials: those that do not follow a miss."""
    return ~_previous(missed, first)


def start_rate(rate: float, clustering: float) -> float:
    """The rate of starts of clusters at which the miss rate is `rate`, if a miss follows a miss with `clustering`.

    Independent misses follow a miss as often as anything else: a `clustering` below `rate` counts as that.
    """
    rho = max(rate, clustering)
    return rate * (1.0 - rho) / (1.0 - rate)


def block_rate(rate: float, clustering: float, size: int) -> float:
    """A rate below which blocks of `size` requests cannot miss if requests miss at `rate` or more.

    It is `rate` itself, as a block misses if one of its requests does, but for blocks too short to hold a cluster,
    where the block before tells of this one.
    """
    return float(min(rate, -np.expm1(size * np.log1p(-start_rate(rate, clustering)))))


def block_misses(missed: Bools, first: Bools, size: int) -> Bools:
    """Which whole blocks have a miss; no block goes across a restart, and what is left before one is dropped."""
    starts = [*np.flatnonzero(first).tolist(), missed.size]
    parts = []
    for start, end in itertools.pairwise(starts):
        whole = (end - start) // size
        parts.append(missed[start : start + whole * size].reshape(whole, size).any(axis=1))
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)


def contradicts(measure: ClusterMeasure, clustering: float, alpha: float) -> bool:
    """Whether the misses cluster so much that `clustering` can hardly be true (errors of at most `alpha`)."""
    return at_least(measure.again, measure.after_miss, clustering) <= alpha


def _previous(missed: Bools, first: Bools) -> Bools:
    before = np.zeros_like(missed)
    before[..., 1:] = missed[..., :-1]
    return before & ~first
