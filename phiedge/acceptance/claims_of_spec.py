"""From the budgets of a spec to claims with an error rate each, and to the number of requests that they take."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phiedge.acceptance.budgets import AccuracyBudget, ColdStartBudget, LatencyBudget
from phiedge.acceptance.claim import Claim
from phiedge.acceptance.clusters import Bools
from phiedge.acceptance.fixed_plan import smallest_trials
from phiedge.acceptance.samples import Sample
from phiedge.acceptance.spec import Spec, Statistics
from phiedge.errors import UsageError

_MOST_REPEATS = 2  # a fixed plan that gets no trials, as requests follow misses, ends at so many times its size


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What one workload has to show, in how many requests; `trials` are what a fixed plan needs of the counted kind,
    `cases` how many questions have to be asked in any plan."""

    statistics: Statistics
    budgets: tuple[LatencyBudget, ...]
    claims: tuple[Claim, ...]
    requests: int
    trials: int
    cases: int

    @property
    def most_requests(self) -> int:
        """Where a run ends at the latest."""
        return self.requests if self.statistics.plan == "sequential" else _MOST_REPEATS * self.requests


def alpha_of_each(spec: Spec) -> float:
    """The error rate of one budget, such that all together keep that of the spec whatever Holm's order is."""
    if spec.statistics.multiplicity == "none":
        return spec.statistics.alpha
    return spec.statistics.alpha / max(1, spec.judged)


def plan_workload(spec: Spec, name: str, *, cases: int = 0) -> Planned:
    """The claims of one workload with so many `cases`. Raises `UsageError` if they would take more samples than anyone
    has, or more cases than requests."""
    statistics, budgets, alpha = spec.statistics, spec.budgets_of(name), alpha_of_each(spec)
    claims = tuple(claim_of(budget, statistics, alpha) for budget in budgets)
    if statistics.plan == "sequential":
        if cases > statistics.max_requests:
            raise UsageError(
                f"workload {name!r} has {cases} cases, and max_requests is {statistics.max_requests}",
                remedy=f"give max_requests = {cases} or more",
            )
        most = statistics.max_requests if budgets else max(1, cases)
        return Planned(statistics=statistics, budgets=budgets, claims=claims, requests=most, trials=0, cases=cases)
    sizes = [
        smallest_trials(rate=claim.trial_rate, alpha=alpha, allowed_misses=statistics.allowed_misses)
        for claim in claims
    ]
    trials = max(sizes, default=0)
    jitters = [
        smallest_trials(rate=1.0 - budget.quantile, alpha=alpha / 2, allowed_misses=0)
        for budget in spec.jitters_of(name)
    ]
    requests = max([trials * statistics.block_requests, *jitters, cases, 1])
    return Planned(statistics=statistics, budgets=budgets, claims=claims, requests=requests, trials=trials, cases=cases)


def cold_starts_of(spec: Spec) -> int:
    """How many new processes have to be started."""
    if spec.cold_start is None:
        return 0
    budget = spec.cold_start
    return smallest_trials(rate=1.0 - budget.quantile, alpha=alpha_of_each(spec), allowed_misses=budget.allowed_misses)


def claim_of(budget: LatencyBudget, statistics: Statistics, alpha: float) -> Claim:
    """What a latency budget claims of hits and misses."""
    return Claim(
        quantile=budget.quantile,
        alpha=alpha,
        plan=statistics.plan,
        clustering=statistics.clustering,
        block_requests=statistics.block_requests,
    )


def single_claim(budget: ColdStartBudget | AccuracyBudget, alpha: float) -> Claim:
    """What is claimed of trials that were fixed before, and of which none knows of another."""
    share = budget.at_least if isinstance(budget, AccuracyBudget) else budget.quantile
    return Claim(quantile=share, alpha=alpha, plan="fixed")


def counted(budget: LatencyBudget, samples: Sequence[Sample]) -> list[Sample]:
    """The samples that a budget is about: of cancelling, only those that were running when they were cancelled."""
    if budget.metric != "abort_ms":
        return list(samples)
    return [sample for sample in samples if sample.abort_ms is not None]


def missed_of(budget: LatencyBudget, samples: Sequence[Sample]) -> Bools:
    """Which samples miss the budget; one without the metric does."""
    values = [sample.metric(budget.metric) for sample in samples]
    return np.array([value is None or value > budget.limit_ms for value in values], dtype=np.bool_)


def first_of(samples: Sequence[Sample]) -> Bools:
    """Which samples are the first of their start, of those that are left."""
    starts = [sample.start for sample in samples]
    return np.array([place == 0 or starts[place - 1] != start for place, start in enumerate(starts)], dtype=np.bool_)


def asked_once(samples: Sequence[Sample]) -> list[Sample]:
    """The first answer to each case: to ask again is no further sample of what may be asked."""
    found: dict[int, Sample] = {}
    for sample in samples:
        if sample.case is not None:
            found.setdefault(sample.case, sample)
    return list(found.values())


def wrong_of(budget: AccuracyBudget, samples: Sequence[Sample]) -> Bools:
    """Which answers are wrong, or came too late."""
    limit_ms = float("inf") if budget.limit_ms is None else budget.limit_ms
    return np.array(
        [not sample.right or sample.e2e_ms is None or sample.e2e_ms > limit_ms for sample in samples], dtype=np.bool_
    )
