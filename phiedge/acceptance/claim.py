"""What is claimed of a stream of requests that each hit or miss, and how strongly what was seen speaks for or against.

A claim is "at most 1 - quantile of the requests miss". The strength of evidence is a p value in both directions, so
that several claims can be judged together (`multiplicity`) by one rule for all plans.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from phiedge.acceptance.binomial import at_least, at_most
from phiedge.acceptance.clustered_fail import log_capital_for_clustered_fail
from phiedge.acceptance.clusters import (
    Bools,
    ClusterMeasure,
    block_misses,
    block_rate,
    cluster_trials,
    contradicts,
    measure_clusters,
    start_rate,
)
from phiedge.acceptance.fixed_plan import smallest_trials
from phiedge.acceptance.sequential import log_capital_for_fail, log_capital_for_pass, more_trials

PlanKind: TypeAlias = Literal["fixed", "sequential"]

MOST_MORE = 10_000_000
_MOST_FRESH_MISSES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """At most `1 - quantile` of all requests miss, even if a miss follows a miss with a probability of `clustering`.

    With `block_requests` above 1, blocks of so many are the trials. `alpha` is the error rate of this claim alone.
    """

    quantile: float
    alpha: float
    plan: PlanKind
    clustering: float = 0.0
    block_requests: int = 1

    @property
    def rate(self) -> float:
        """The miss rate that must not be exceeded."""
        return 1.0 - self.quantile

    @property
    def trial_rate(self) -> float:
        """The rate of missed trials below which the claim is shown."""
        if self.block_requests > 1:
            return block_rate(self.rate, self.clustering, self.block_requests)
        return start_rate(self.rate, self.clustering)

    @property
    def clustered(self) -> bool:
        """Whether requests are not taken as independent."""
        return self.clustering > self.rate or self.block_requests > 1

    def requests_of_trials(self, trials: int) -> int:
        """How many requests `trials` take if none misses."""
        return trials * self.block_requests


@dataclass(frozen=True, slots=True, kw_only=True)
class More:
    """`requests` would decide, if misses stay as rare as they were.

    With a sequential plan they may be added to these; with a fixed one they are a new run (`fresh`).
    """

    requests: int
    fresh: bool
    towards: Literal["PASS", "FAIL"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strength:
    """How strongly a run speaks: small `p_pass` for the claim, small `p_fail` against it.

    `contradicted` is set if misses cluster more than the claim allows for; then `p_pass` means nothing.
    """

    requests: int
    misses: int
    trials: int
    missed_trials: int
    p_pass: float
    p_fail: float
    clusters: ClusterMeasure
    contradicted: bool


def strength(claim: Claim, missed: Bools, first: Bools) -> Strength:
    """Weigh the requests of a run, bool [n] in order; `first` marks the first one after each restart."""
    trials, missed_trials = _trials(claim, missed, first)
    clusters = measure_clusters(missed, first)
    return Strength(
        requests=missed.size,
        misses=int(missed.sum()),
        trials=trials,
        missed_trials=int(missed_trials.sum()),
        p_pass=_p_pass(claim, trials, missed_trials),
        p_fail=_p_fail(claim, missed, first),
        clusters=clusters,
        contradicted=contradicts(clusters, max(claim.rate, claim.clustering), claim.alpha)
        if claim.block_requests == 1
        else False,
    )


def more_requests(claim: Claim, seen: Strength) -> More | None:
    """How many more requests would decide if trials go on to miss as they did; None if they never would."""
    trials, misses = seen.trials, seen.missed_trials
    rate = misses / trials if trials else 0.0
    if claim.plan == "sequential":
        more = more_trials(trials, misses, rate=claim.trial_rate, alpha=claim.alpha, further_rate=rate, most=MOST_MORE)
    else:
        more = _fresh_trials(claim, rate)
    if more is None:
        return None
    return More(
        requests=claim.requests_of_trials(more),
        fresh=claim.plan == "fixed",
        towards="PASS" if rate < claim.trial_rate else "FAIL",
    )


def _trials(claim: Claim, missed: Bools, first: Bools) -> tuple[int, Bools]:
    """How many trials there were, and which of them missed."""
    if claim.block_requests > 1:
        outcomes = block_misses(missed, first, claim.block_requests)
    elif claim.clustered:
        outcomes = missed[cluster_trials(missed, first)]
    else:
        outcomes = missed
    return outcomes.size, outcomes


def _p_pass(claim: Claim, trials: int, missed_trials: Bools) -> float:
    if claim.plan == "fixed":
        return at_most(int(missed_trials.sum()), trials, claim.trial_rate)
    return _p_of_capital(log_capital_for_pass(np.arange(1, trials + 1), missed_trials.cumsum(), rate=claim.trial_rate))


def _p_fail(claim: Claim, missed: Bools, first: Bools) -> float:
    if claim.clustered:
        capital = log_capital_for_clustered_fail(missed, first, rate=claim.rate)
        return _p_of_capital(capital if claim.plan == "sequential" else capital[-1:])
    if claim.plan == "fixed":
        return at_least(int(missed.sum()), missed.size, claim.rate)
    return _p_of_capital(log_capital_for_fail(np.arange(1, missed.size + 1), missed.cumsum(), rate=claim.rate))


def _p_of_capital(log_capital: npt.NDArray[np.float64]) -> float:
    """The best moment counts: that it came at all has a probability of at most one over the capital."""
    return min(1.0, math.exp(-max(0.0, float(log_capital.max())))) if log_capital.size else 1.0


def _fresh_trials(claim: Claim, rate: float) -> int | None:
    """The smallest fixed plan that a device with this miss rate would be expected to pass, or to fail."""
    if rate >= claim.trial_rate:
        return None

    def size(allowed: int) -> int:
        return smallest_trials(rate=claim.trial_rate, alpha=claim.alpha, allowed_misses=allowed)

    if rate == 0.0:
        return size(0)
    low, high = 0, 1
    while size(high) * rate > high:
        low, high = high, 2 * high
        if high > _MOST_FRESH_MISSES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if size(middle) * rate <= middle else (middle, high)
    return size(high)
