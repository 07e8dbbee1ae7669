"""The verdict: of each budget, and of the campaign as a whole, each with its reason in words.

PASS and FAIL are shown, each with an error rate of at most 1 - confidence over all budgets together. INCONCLUSIVE says
what would decide. INVALID says that the machine was not the one that the spec asks for, so that nothing is shown.

A machine that changed while it was measured is judged again as if everything had been slower, and faster, by the
largest change that was seen: a verdict that is the same three times holds of every part of the run, and of as much
change again. One that is not is INVALID.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from phiedge.acceptance.budgets import JitterBudget, MemoryBudget
from phiedge.acceptance.campaign import Campaign
from phiedge.acceptance.claims_of_spec import alpha_of_each
from phiedge.acceptance.fixed_plan import QuantileBounds, quantile_bounds
from phiedge.acceptance.samples import Sample
from phiedge.acceptance.spec import Spec
from phiedge.acceptance.steadiness import Steadiness, steadiness
from phiedge.acceptance.weighing import MEMORY, BudgetJudgement, Samples, Verdict, label, values_of, weigh

EXIT_CODES: dict[Verdict, int] = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3, "INVALID": 4}

_ORDER: tuple[Verdict, ...] = ("FAIL", "INVALID", "INCONCLUSIVE", "PASS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict of a campaign and why; `notes` are what the verdict bears."""

    verdict: Verdict
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    budgets: tuple[BudgetJudgement, ...]
    steadiness: dict[str, Steadiness | None]


def judge(spec: Spec, campaign: Campaign) -> Judgement:
    """Weigh everything that a campaign measured."""
    steady = {
        name: steadiness(np.array([sample.e2e_ms - sample.late_ms for sample in samples if sample.e2e_ms is not None]))
        for name, samples in campaign.samples.items()
    }
    changed = {
        name: found.change
        for name, found in steady.items()
        if found is not None and found.change > spec.statistics.drift_max_share
    }
    budgets = (*_steadied(spec, campaign, changed), *_memory(spec, campaign))
    notes = [*campaign.watched.notes, *(_say_change(name, steady[name]) for name in changed)]
    verdict, reasons = _overall(campaign, budgets)
    return Judgement(verdict=verdict, reasons=tuple(reasons), notes=tuple(notes), budgets=budgets, steadiness=steady)


def _overall(campaign: Campaign, budgets: Sequence[BudgetJudgement]) -> tuple[Verdict, list[str]]:
    """A machine that was not as asked shows nothing; nor does a part of a run."""
    invalid = list(campaign.watched.broken)
    if campaign.ended == "failed":
        invalid.append(f"the device failed: {campaign.failure}")
    if campaign.loads.short is not None and campaign.ended == "complete":
        invalid.append(campaign.loads.short)
    if invalid:
        return "INVALID", invalid
    found = {judged.verdict for judged in budgets}
    stopped = ["the run was interrupted; nothing is shown by a part of it"] if campaign.ended == "interrupted" else []
    verdict: Verdict = "INCONCLUSIVE" if stopped else next(v for v in _ORDER if v in found)
    return verdict, stopped + [
        f"{one.workload}: {one.budget}: {one.reason}" for one in budgets if one.verdict == verdict
    ]


def _steadied(spec: Spec, campaign: Campaign, changed: dict[str, float]) -> tuple[BudgetJudgement, ...]:
    """All budgets of samples. What a change of the machine could turn is INVALID."""
    seen, slower, faster = (
        _judged(spec, _scaled(campaign.samples, changed, sign), campaign.cold_start_ms) for sign in (0, 1, -1)
    )
    if not changed:
        return seen
    return tuple(
        one if one.verdict == slow.verdict == fast.verdict else _turned(one, slow, fast, changed)
        for one, slow, fast in zip(seen, slower, faster, strict=True)
    )


def _scaled(samples: Samples, changed: dict[str, float], sign: int) -> Samples:
    return {
        name: [sample.slowed((1.0 + changed[name]) ** sign) for sample in found] if name in changed and sign else found
        for name, found in samples.items()
    }


def _turned(
    one: BudgetJudgement, slow: BudgetJudgement, fast: BudgetJudgement, changed: dict[str, float]
) -> BudgetJudgement:
    most = changed.get(one.workload, max(changed.values()))
    other = next(verdict for verdict in (slow.verdict, fast.verdict) if verdict != one.verdict)
    reason = (
        f"{one.reason}: {one.verdict}, but latencies changed by {100 * most:.0f} % during the run, and with as much "
        f"again it would be {other}"
    )
    return replace(one, verdict="INVALID", reason=reason, more=None)


def _say_change(name: str, found: Steadiness | None) -> str:
    assert found is not None
    parts = [
        f"{what} by {100 * share:+.0f} %"
        for what, share in (
            ("drifted over the run", found.drift),
            ("began off the rest", found.early),
            ("were off for a fifth of the run", found.swing),
        )
        if share is not None
    ]
    advice = "; give it more warmup_requests" if found.early is not None and found.early == found.change else ""
    return f"{name}: latencies {', '.join(parts)}{advice}"


def _judged(spec: Spec, samples: Samples, cold_start_ms: Sequence[float]) -> tuple[BudgetJudgement, ...]:
    jitters = [
        _judge_jitter(workload.name, budget, samples[workload.name], alpha_of_each(spec))
        for workload in spec.workloads
        for budget in spec.jitters_of(workload.name)
    ]
    return (*weigh(spec, samples, cold_start_ms), *jitters)


def _judge_jitter(workload: str, budget: JitterBudget, samples: Sequence[Sample], alpha: float) -> BudgetJudgement:
    """From the bounds of both quantiles, each at half the error rate."""
    values = values_of(budget, samples)
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
        unit="ms",
        limit=budget.limit_ms,
        verdict=verdict,
        reason=reason,
        bounds=QuantileBounds(lower=least, upper=most),
    )


def _memory(spec: Spec, campaign: Campaign) -> tuple[BudgetJudgement, ...]:
    return tuple(_judge_memory(budget, campaign.watched.figures.get(budget.metric)) for budget in spec.memory)


def _judge_memory(budget: MemoryBudget, peak: float | None) -> BudgetJudgement:
    verdict: Verdict
    if peak is None:
        verdict, reason = "INCONCLUSIVE", f"this system does not tell {budget.metric}"
    else:
        verdict = "PASS" if peak <= budget.limit_bytes else "FAIL"
        reason = f"{peak / 2**20:,.0f} MiB at most, {budget.limit_bytes / 2**20:,.0f} may be"
    return BudgetJudgement(
        workload=MEMORY,
        budget=label(budget),
        unit="bytes",
        limit=budget.limit_bytes,
        verdict=verdict,
        reason=reason,
        bounds=QuantileBounds(lower=peak, upper=peak),
    )
