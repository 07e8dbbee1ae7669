"""From the budgets of a spec to claims with an error rate each, and to the number of requests that they take."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phiedge.acceptance.claim import Claim
from phiedge.acceptance.clusters import Bools
from phiedge.acceptance.fixed_plan import smallest_trials
from phiedge.acceptance.samples import Sample
from phiedge.acceptance.spec import LatencyBudget, Spec, Statistics

_MOST_REPEATS = 2  # a fixed plan that gets no trials, as requests follow misses, ends at so many times its size


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What one workload has to show, in how many requests; `trials` are what a fixed plan needs of the counted kind."""

    statistics: Statistics
    budgets: tuple[LatencyBudget, ...]
    claims: tuple[Claim, ...]
    requests: int
    trials: int

    @property
    def most_requests(self) -> int:
        """Where a run ends at the latest."""
        return self.requests if self.statistics.plan == "sequential" else _MOST_REPEATS * self.requests


def alpha_of_each(spec: Spec) -> float:
    """The error rate of one budget, such that all together keep that of the spec whatever Holm's order is."""
    if spec.statistics.multiplicity == "none":
        return spec.statistics.alpha
    judged = sum(len(spec.budgets_of(w.name)) + len(spec.jitters_of(w.name)) for w in spec.workloads)
    return spec.statistics.alpha / judged


def plan_workload(spec: Spec, name: str) -> Planned:
    """The claims of one workload. Raises `UsageError` if they would take more samples than anyone has."""
    statistics, budgets, alpha = spec.statistics, spec.budgets_of(name), alpha_of_each(spec)
    claims = tuple(claim_of(budget, statistics, alpha) for budget in budgets)
    if statistics.plan == "sequential":
        return Planned(
            statistics=statistics, budgets=budgets, claims=claims, requests=statistics.max_requests, trials=0
        )
    sizes = [
        smallest_trials(rate=claim.trial_rate, alpha=alpha, allowed_misses=statistics.allowed_misses)
        for claim in claims
    ]
    trials = max(sizes, default=0)
    jitters = [
        smallest_trials(rate=1.0 - budget.quantile, alpha=alpha / 2, allowed_misses=0)
        for budget in spec.jitters_of(name)
    ]
    requests = max([trials * statistics.block_requests, *jitters, 1])
    return Planned(statistics=statistics, budgets=budgets, claims=claims, requests=requests, trials=trials)


def claim_of(budget: LatencyBudget, statistics: Statistics, alpha: float) -> Claim:
    """What a latency budget claims of hits and misses."""
    return Claim(
        quantile=budget.quantile,
        alpha=alpha,
        plan=statistics.plan,
        clustering=statistics.clustering,
        block_requests=statistics.block_requests,
    )


def missed_of(budget: LatencyBudget, samples: Sequence[Sample]) -> Bools:
    """Which samples miss the budget; one without the metric does."""
    values = [sample.metric(budget.metric) for sample in samples]
    return np.array([value is None or value > budget.limit_ms for value in values], dtype=np.bool_)
