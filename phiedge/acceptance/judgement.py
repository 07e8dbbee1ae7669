"""The verdict: of each budget, and of the campaign as a whole, each with its reason in words.

PASS and FAIL are shown, each with an error rate of at most 1 - confidence over all budgets together. INCONCLUSIVE says
what would decide. INVALID says that the machine was not the one that the spec asks for, so that nothing is shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from phiedge.acceptance.campaign import Campaign
from phiedge.acceptance.claim import More, Strength, more_requests, strength
from phiedge.acceptance.claims_of_spec import alpha_of_each, claim_of, missed_of
from phiedge.acceptance.clusters import Bools
from phiedge.acceptance.fixed_plan import QuantileBounds, quantile_bounds
from phiedge.acceptance.multiplicity import holm
from phiedge.acceptance.samples import Sample
from phiedge.acceptance.spec import JitterBudget, LatencyBudget, Spec
from phiedge.acceptance.steadiness import Steadiness, steadiness
from phiedge.acceptance.weakly_hard import violations

Verdict: TypeAlias = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
EXIT_CODES: dict[Verdict, int] = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3, "INVALID": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetJudgement:
    """One budget of one workload. `bounds_ms` hold of the quantile with the budget's share of the error rate, if
    samples are independent; `strength` and `more` are None of jitter."""

    workload: str
    budget: str
    limit_ms: float
    verdict: Verdict
    reason: str
    bounds_ms: QuantileBounds
    strength: Strength | None
    more: More | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict of a campaign and why."""

    verdict: Verdict
    reasons: tuple[str, ...]
    budgets: tuple[BudgetJudgement, ...]
    steadiness: dict[str, Steadiness | None]


def judge(spec: Spec, campaign: Campaign) -> Judgement:
    """Weigh everything that a campaign measured."""
    budgets = (*_latencies(spec, campaign), *_jitters(spec, campaign))
    steady = {
        name: steadiness(np.array([sample.e2e_ms - sample.late_ms for sample in samples]))
        for name, samples in campaign.samples.items()
    }
    invalid = [*campaign.watched.broken, *_unsteady(spec, steady)]
    if campaign.ended == "failed":
        invalid.append(f"the device failed: {campaign.failure}")
    if invalid:
        return Judgement(verdict="INVALID", reasons=tuple(invalid), budgets=budgets, steadiness=steady)
    found = {judged.verdict for judged in budgets}
    stopped = ["the run was interrupted; nothing is shown by a part of it"] if campaign.ended == "interrupted" else []
    verdict: Verdict = "INCONCLUSIVE" if stopped else next(v for v in ("FAIL", "INCONCLUSIVE", "PASS") if v in found)
    reasons = [f"{one.workload}: {one.budget}: {one.reason}" for one in budgets if one.verdict == verdict]
    return Judgement(
        verdict=verdict,
        reasons=tuple(stopped + reasons),
        budgets=budgets,
        steadiness=steady,
    )


def label(budget: LatencyBudget | JitterBudget) -> str:
    """A budget in one line."""
    kind = "jitter of " if isinstance(budget, JitterBudget) else ""
    window = budget.weakly_hard if isinstance(budget, LatencyBudget) else None
    tail = "" if window is None else f", at most {window.misses} misses in any {window.of}"
    return f"{kind}{budget.metric} at {100 * budget.quantile:g} % within {budget.limit_ms:g} ms{tail}"


def _latencies(spec: Spec, campaign: Campaign) -> tuple[BudgetJudgement, ...]:
    of = [(workload.name, budget) for workload in spec.workloads for budget in spec.budgets_of(workload.name)]
    found = [_weigh(spec, budget, campaign.samples[name]) for name, budget in of]
    alpha = alpha_of_each(spec)
    passes, fails = [seen.p_pass for seen in found], [seen.p_fail for seen in found]
    if spec.statistics.multiplicity == "holm":
        passes, fails, alpha = list(holm(passes)), list(holm(fails)), alpha * len(found)
    return tuple(
        _judge_latency(spec, name, budget, campaign.samples[name], seen, p_pass <= alpha, p_fail <= alpha)
        for (name, budget), seen, p_pass, p_fail in zip(of, found, passes, fails, strict=True)
    )


def _weigh(spec: Spec, budget: LatencyBudget, samples: Sequence[Sample]) -> Strength:
    claim = claim_of(budget, spec.statistics, alpha_of_each(spec))
    return strength(claim, missed_of(budget, samples), _first(samples))


def _judge_latency(
    spec: Spec,
    workload: str,
    budget: LatencyBudget,
    samples: Sequence[Sample],
    seen: Strength,
    passes: bool,
    fails: bool,
) -> BudgetJudgement:
    claim = claim_of(budget, spec.statistics, alpha_of_each(spec))
    more = None
    counted = f"{seen.misses} of {seen.requests} missed"
    windows = 0
    if budget.weakly_hard is not None:
        windows = int(violations(missed_of(budget, samples), _first(samples), budget.weakly_hard).sum())
    verdict: Verdict
    if windows:
        verdict, reason = "FAIL", f"{counted}, too close together {windows} times"
    elif fails:
        verdict, reason = "FAIL", f"{counted}, at most {100 * claim.rate:g} % may"
    elif passes and seen.contradicted:
        rho = seen.clusters.rho or 0.0
        verdict = "INCONCLUSIVE"
        reason = f"{counted}, and P(miss | miss) was {rho:.2f}: declare at least that as clustering, in a new run"
    elif passes:
        verdict, reason = "PASS", counted
    else:
        verdict, more = "INCONCLUSIVE", more_requests(claim, seen)
        reason = f"{counted}; {_say(more)}"
    return BudgetJudgement(
        workload=workload,
        budget=label(budget),
        limit_ms=budget.limit_ms,
        verdict=verdict,
        reason=reason,
        bounds_ms=quantile_bounds(_values(budget, samples), quantile=budget.quantile, alpha=claim.alpha),
        strength=seen,
        more=more,
    )


def _say(more: More | None) -> str:
    if more is None:
        return "too near to the limit to be decided by any reasonable number of requests"
    which = f"a new run of {more.requests:,} requests" if more.fresh else f"{more.requests:,} more requests"
    return f"{which} would decide (towards {more.towards}) if misses stay as rare"


def _jitters(spec: Spec, campaign: Campaign) -> tuple[BudgetJudgement, ...]:
    return tuple(
        _judge_jitter(workload.name, budget, campaign.samples[workload.name], alpha_of_each(spec))
        for workload in spec.workloads
        for budget in spec.jitters_of(workload.name)
    )


def _judge_jitter(workload: str, budget: JitterBudget, samples: Sequence[Sample], alpha: float) -> BudgetJudgement:
    """From the bounds of both quantiles, each at half the error rate."""
    values = _values(budget, samples)
    high = quantile_bounds(values, quantile=budget.quantile, alpha=alpha / 2)
    middle = quantile_bounds(values, quantile=0.5, alpha=alpha / 2)
    most = None if high.upper is None or middle.lower is None else high.upper - middle.lower
    least = None if high.lower is None or middle.upper is None else high.lower - middle.upper
    verdict: Verdict
    if most is not None and most <= budget.limit_ms:
        verdict, reason = "PASS", f"at most {most:.4g} ms"
    elif least is not None and least > budget.limit_ms:
        verdict, reason = "FAIL", f"at least {least:.4g} ms"
    else:
        verdict = "INCONCLUSIVE"
        low_text, high_text = (f"{least or 0:.4g}", "more" if most is None else f"{most:.4g}")
        reason = f"between {low_text} and {high_text} ms; a higher allowed_misses takes more samples"
    return BudgetJudgement(
        workload=workload,
        budget=label(budget),
        limit_ms=budget.limit_ms,
        verdict=verdict,
        reason=reason,
        bounds_ms=QuantileBounds(lower=least, upper=most),
        strength=None,
        more=None,
    )


def _values(budget: LatencyBudget | JitterBudget, samples: Sequence[Sample]) -> list[float]:
    """The latencies; one that never came is longer than any."""
    found = [sample.metric(budget.metric) for sample in samples]
    return [float("inf") if value is None else value for value in found]


def _first(samples: Sequence[Sample]) -> Bools:
    return np.array([sample.first for sample in samples], dtype=np.bool_)


def _unsteady(spec: Spec, steady: dict[str, Steadiness | None]) -> list[str]:
    most, said = spec.statistics.drift_max_share, []
    for name, found in steady.items():
        if found is None:
            continue
        if found.early is not None and abs(found.early) > most:
            said.append(
                f"{name}: the first fifth was {100 * found.early:+.0f} % off the rest: give it more warmup_requests"
            )
        if found.drift is not None and abs(found.drift) > most:
            said.append(f"{name}: latencies drifted by {100 * found.drift:+.0f} % over the run")
    return said
