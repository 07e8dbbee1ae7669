"""Weighs what a campaign measured: each budget that is a claim of hits and misses, all together, once.

The steps are the same for latencies, answers and cold starts: which trials missed, how strongly that speaks in both
directions, and Holm's correction over all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from phiedge.acceptance.binomial import highest_rate, lowest_rate
from phiedge.acceptance.budgets import AccuracyBudget, ColdStartBudget, JitterBudget, LatencyBudget, MemoryBudget
from phiedge.acceptance.claim import Claim, More, Strength, more_requests, strength
from phiedge.acceptance.claims_of_spec import (
    alpha_of_each,
    asked_once,
    claim_of,
    counted,
    first_of,
    missed_of,
    single_claim,
    wrong_of,
)
from phiedge.acceptance.clusters import Bools
from phiedge.acceptance.fixed_plan import QuantileBounds, quantile_bounds
from phiedge.acceptance.multiplicity import holm
from phiedge.acceptance.samples import Sample
from phiedge.acceptance.spec import Spec
from phiedge.acceptance.weakly_hard import WeaklyHard, violations

Verdict: TypeAlias = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
Unit: TypeAlias = Literal["ms", "share", "bytes"]
Samples: TypeAlias = Mapping[str, Sequence[Sample]]

COLD_START = "(cold start)"
MEMORY = "(memory)"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetJudgement:
    """One budget of one workload. `bounds` hold of what the `limit` is of (a quantile, a share of right answers) with
    the budget's share of the error rate, if samples are independent; `strength` and `more` are None of jitter and of
    memory."""

    workload: str
    budget: str
    unit: Unit
    limit: float
    verdict: Verdict
    reason: str
    bounds: QuantileBounds
    strength: Strength | None = None
    more: More | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """A claim and its trials."""

    workload: str
    label: str
    unit: Unit
    limit: float
    claim: Claim
    missed: Bools
    first: Bools
    bounds: QuantileBounds
    weakly_hard: WeaklyHard | None = None


def weigh(spec: Spec, samples: Samples, cold_start_ms: Sequence[float]) -> tuple[BudgetJudgement, ...]:
    """Every claim of hits and misses, judged with all the others."""
    items = _items(spec, samples, cold_start_ms)
    found = [strength(item.claim, item.missed, item.first) for item in items]
    alpha = alpha_of_each(spec)
    passes, fails = [seen.p_pass for seen in found], [seen.p_fail for seen in found]
    if spec.statistics.multiplicity == "holm":
        passes, fails, alpha = list(holm(passes)), list(holm(fails)), alpha * len(found)
    return tuple(
        _judge(item, seen, passes=p_pass <= alpha, fails=p_fail <= alpha)
        for item, seen, p_pass, p_fail in zip(items, found, passes, fails, strict=True)
    )


def label(budget: LatencyBudget | JitterBudget | AccuracyBudget | ColdStartBudget | MemoryBudget) -> str:
    """A budget in one line."""
    if isinstance(budget, MemoryBudget):
        return f"{budget.metric} within {budget.limit_bytes / 2**20:,.0f} MiB"
    if isinstance(budget, AccuracyBudget):
        tail = "" if budget.limit_ms is None else f" within {budget.limit_ms:g} ms"
        return f"{100 * budget.at_least:g} % answered rightly{tail}"
    what = "first token" if isinstance(budget, ColdStartBudget) else budget.metric
    kind = "jitter of " if isinstance(budget, JitterBudget) else ""
    window = budget.weakly_hard if isinstance(budget, LatencyBudget) else None
    tail = "" if window is None else f", at most {window.misses} misses in any {window.of}"
    return f"{kind}{what} at {100 * budget.quantile:g} % within {budget.limit_ms:g} ms{tail}"


def values_of(budget: LatencyBudget | JitterBudget, samples: Sequence[Sample]) -> list[float]:
    """The latencies; one that never came is longer than any."""
    found = [sample.metric(budget.metric) for sample in samples]
    return [float("inf") if value is None else value for value in found]


def _items(spec: Spec, samples: Samples, cold_start_ms: Sequence[float]) -> list[_Item]:
    alpha, items = alpha_of_each(spec), []
    for workload in spec.workloads:
        mine = samples[workload.name]
        items += [_latency(spec, workload.name, budget, mine, alpha) for budget in spec.budgets_of(workload.name)]
        items += [_accuracy(workload.name, budget, mine, alpha) for budget in spec.accuracies_of(workload.name)]
    if spec.cold_start is not None:
        items.append(_cold(spec.cold_start, cold_start_ms, alpha))
    return items


def _latency(spec: Spec, workload: str, budget: LatencyBudget, samples: Sequence[Sample], alpha: float) -> _Item:
    about = counted(budget, samples)
    return _Item(
        workload=workload,
        label=label(budget),
        unit="ms",
        limit=budget.limit_ms,
        claim=claim_of(budget, spec.statistics, alpha),
        missed=missed_of(budget, about),
        first=first_of(about),
        bounds=quantile_bounds(values_of(budget, about), quantile=budget.quantile, alpha=alpha),
        weakly_hard=budget.weakly_hard,
    )


def _accuracy(workload: str, budget: AccuracyBudget, samples: Sequence[Sample], alpha: float) -> _Item:
    wrong = wrong_of(budget, asked_once(samples))
    count, misses = wrong.size, int(wrong.sum())
    bounds = QuantileBounds(
        lower=1.0 - highest_rate(misses, count, alpha), upper=1.0 - lowest_rate(misses, count, alpha)
    )
    return _Item(
        workload=workload,
        label=label(budget),
        unit="share",
        limit=budget.at_least,
        claim=single_claim(budget, alpha),
        missed=wrong,
        first=_alone(count),
        bounds=bounds,
    )


def _cold(budget: ColdStartBudget, cold_start_ms: Sequence[float], alpha: float) -> _Item:
    return _Item(
        workload=COLD_START,
        label=label(budget),
        unit="ms",
        limit=budget.limit_ms,
        claim=single_claim(budget, alpha),
        missed=np.array([value > budget.limit_ms for value in cold_start_ms], dtype=np.bool_),
        first=_alone(len(cold_start_ms)),
        bounds=quantile_bounds(cold_start_ms, quantile=budget.quantile, alpha=alpha),
    )


def _alone(count: int) -> Bools:
    """Trials of which none follows another."""
    return np.ones(count, dtype=np.bool_)


def _judge(item: _Item, seen: Strength, *, passes: bool, fails: bool) -> BudgetJudgement:
    more, windows = None, 0
    missed = "were wrong or late" if item.unit == "share" else "missed"
    counts = f"{seen.misses} of {seen.requests} {missed}"
    if item.weakly_hard is not None:
        windows = int(violations(item.missed, item.first, item.weakly_hard).sum())
    verdict: Verdict
    if windows:
        verdict, reason = "FAIL", f"{counts}, too close together {windows} times"
    elif fails:
        verdict, reason = "FAIL", f"{counts}, at most {100 * item.claim.rate:g} % may"
    elif passes and seen.contradicted:
        rho = seen.clusters.rho or 0.0
        verdict = "INCONCLUSIVE"
        reason = f"{counts}, and P(miss | miss) was {rho:.2f}: declare at least that as clustering, in a new run"
    elif passes:
        verdict, reason = "PASS", counts
    else:
        verdict, more = "INCONCLUSIVE", more_requests(item.claim, seen)
        reason = f"{counts}; {_say(more, item)}"
    return BudgetJudgement(
        workload=item.workload,
        budget=item.label,
        unit=item.unit,
        limit=item.limit,
        verdict=verdict,
        reason=reason,
        bounds=item.bounds,
        strength=seen,
        more=more,
    )


def _say(more: More | None, item: _Item) -> str:
    what = "cases" if item.unit == "share" else "starts" if item.workload == COLD_START else "requests"
    if more is None:
        return f"too near to the limit to be decided by any reasonable number of {what}"
    which = f"a new run of {more.requests:,} {what}" if more.fresh else f"{more.requests:,} more {what}"
    return f"{which} would decide (towards {more.towards}) if misses stay as rare"
