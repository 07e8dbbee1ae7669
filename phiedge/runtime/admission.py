"""Decides, before anything is computed, whether and how a request can meet its budget.

The least that a request must have time for is its pictures, its prompt, the close of a thinking (which the model may
start unless it is told not to) and the room that is kept for the answer. What time is left over is room for thinking.
What does not fit as it was asked is refused with the numbers, or made to fit by giving up what the budget allows, as
little of it as will do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from phiedge.bundle import ModelFacts
from phiedge.errors import BudgetError
from phiedge.runtime.budget import Budget, Sacrifice
from phiedge.runtime.images import PictureSize
from phiedge.runtime.latency_model import NOTHING, Estimate, LatencyModel
from phiedge.runtime.plan import Forecast, Plan
from phiedge.runtime.preprocess import Grid, PatchBudget, choose_grid
from phiedge.runtime.prompt import ThinkMode
from phiedge.runtime.reuse import NOTHING_KEPT, Kept

_CAUTIONS = (0.5, 0.25, 1e-6)
"""What is tried without a promise, by shares of the excess that a promise allows; with none, what is usual must fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as far as its time is concerned.

    `closing_tokens` is what closing a thinking takes; `known_grids` need no new positions; `spent_ms` has passed since
    the call. `form_tokens` is what the shortest answer of a form takes. `kept` tells what is there
    from requests before, with pictures on these grids.
    """

    facts: ModelFacts
    context: int
    text_tokens: int
    pictures: Sequence[PictureSize]
    max_visual_tokens: int | None
    think: ThinkMode
    max_new_tokens: int
    closing_tokens: int
    known_grids: frozenset[Grid]
    spent_ms: float
    form_tokens: int = 0
    kept: Callable[[tuple[Grid, ...]], Kept] = lambda grids: NOTHING_KEPT

    def answer_room(self, budget: Budget) -> int:
        """The tokens that are kept for the answer."""
        return max(self.form_tokens, min(budget.answer_reserve, self.max_new_tokens))

    def grids(self, cap: int | None) -> tuple[Grid, ...]:
        """The grids of all pictures, each under `cap` tokens."""
        budget = PatchBudget.from_facts(self.facts, cap=cap)
        return tuple(choose_grid(picture.width, picture.height, budget) for picture in self.pictures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Times of their profile that requests are believed to take: where something is promised, and usually."""

    slowdown: float
    lately: float

    def usual_ms(self, estimate: Estimate) -> float:
        """What something takes usually now, of which the slowed model says `estimate`."""
        return estimate.usual_ms / self.slowdown * self.lately


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """One way to do it, and how long its parts take."""

    cap: int | None
    grids: tuple[Grid, ...]
    think: ThinkMode
    given_up: tuple[Sacrifice, ...]
    rows: int
    chunk_tokens: int
    answer_tokens: int
    preprocess: Estimate
    vision: Estimate
    prefill: Estimate
    closing: Estimate
    answer: Estimate
    slowest_token_ms: float
    model: LatencyModel

    @property
    def until_first_token(self) -> Estimate:
        return self.model.together(self.preprocess + self.vision + self.prefill)

    @property
    def least(self) -> Estimate:
        """All that must fit."""
        return self.model.together(self.preprocess + self.vision + self.prefill + self.closing + self.answer)


def admit(
    asked: Asked, budget: Budget, model: LatencyModel, *, slowdown: float = 1.0, lately: float | None = None
) -> Plan:
    """The plan for a request. Raises `BudgetError` with the numbers and with the nearest budget that can be met.

    `slowdown` is what the model has in it already, as promises go by it. Requests took `lately` times of their profile,
    which usual times go by; as slow, where nothing else is known.
    """
    pace = Pace(slowdown=slowdown, lately=slowdown if lately is None else lately)
    candidate = _feasible(asked, budget, model)
    if not _lacks(candidate, budget, asked.spent_ms):
        chosen = _worth_thinking(candidate, asked, budget, model)
        return _plan(chosen, asked, budget, model, pace)
    refusal = _refusal(candidate, asked, budget, model, slowdown)
    if budget.on_infeasible != "attempt":
        raise refusal
    return _attempted(candidate, asked, budget, model, pace, reason=refusal.message)


def _feasible(asked: Asked, budget: Budget, model: LatencyModel) -> _Candidate:
    """The way that gives up least of those that meet the budget; where none does, the one that gives up most."""
    may_give_up = budget.may_give_up
    candidate = _best(asked, budget, model, ())
    for count in range(1, len(may_give_up) + 1):
        if not _lacks(candidate, budget, asked.spent_ms):
            break
        candidate = _best(asked, budget, model, may_give_up[:count])
    return candidate


def _attempted(
    candidate: _Candidate, asked: Asked, budget: Budget, model: LatencyModel, pace: Pace, *, reason: str
) -> Plan:
    """The plan for what cannot be promised: the one that would be promised with less caution, or the cheapest."""
    for caution in _CAUTIONS:
        bolder = replace(model, joint=caution * model.joint)
        tried = _feasible(asked, budget, bolder)
        if not _lacks(tried, budget, asked.spent_ms):
            candidate = replace(_worth_thinking(tried, asked, budget, bolder), model=model)
            break
    return replace(_plan(candidate, asked, budget, model, pace), unpromised=reason)


def _worth_thinking(candidate: _Candidate, asked: Asked, budget: Budget, model: LatencyModel) -> _Candidate:
    """The same without thinking, where that may be given up and has less room than the answer.

    What was hardly begun says nothing, and many models then go on with it in their answer.
    """
    room = _thinking_room(candidate, asked, budget, model)
    if "thinking" not in budget.may_give_up or candidate.think == "off" or room is None:
        return candidate
    if budget.deadline_ms is None or room >= candidate.answer_tokens:
        return candidate
    without = _best(asked, budget, model, budget.may_give_up)
    return candidate if _lacks(without, budget, asked.spent_ms) else without


def unmeasured(asked: Asked, budget: Budget, *, chunk_tokens: int, reason: str) -> Plan:
    """The plan where no latency model tells anything: nothing is promised. Raises `BudgetError` if it should choose."""
    if budget.on_infeasible == "degrade":
        raise BudgetError(
            f"what to give up cannot be chosen: {reason}",
            remedy="measure this machine: phiedge profile BUNDLE; or leave on_infeasible at 'refuse'",
        )
    tokens = tuple(grid.tokens for grid in asked.grids(asked.max_visual_tokens))
    return Plan(
        prompt_tokens=asked.text_tokens,
        visual_tokens=tokens,
        asked_visual_tokens=tokens,
        max_visual_tokens=asked.max_visual_tokens,
        think=asked.think,
        thinking_tokens=budget.think_tokens if asked.think != "off" else 0,
        answer_tokens=asked.answer_room(budget),
        chunk_tokens=chunk_tokens,
        unpromised=reason,
    )


def _best(asked: Asked, budget: Budget, model: LatencyModel, given_up: tuple[Sacrifice, ...]) -> _Candidate:
    """The way that gives up no more than that, and of the pictures as little as will do, or else all it may."""
    think: ThinkMode = "off" if "thinking" in given_up else asked.think

    def with_cap(cap: int | None) -> _Candidate:
        return _candidate(asked, budget, model, cap, think, given_up)

    whole = with_cap(asked.max_visual_tokens)
    if "visual" not in given_up or not asked.pictures or not _lacks(whole, budget, asked.spent_ms):
        return whole
    fewest = asked.facts.min_num_patches if budget.min_visual_tokens is None else budget.min_visual_tokens
    high = max(grid.tokens for grid in whole.grids)
    low = min(fewest, high)
    found = with_cap(low)
    if _lacks(found, budget, asked.spent_ms):
        return found
    while high - low > 1:
        middle = (low + high) // 2
        tried = with_cap(middle)
        if _lacks(tried, budget, asked.spent_ms):
            high = middle
        else:
            low, found = middle, tried
    return found


def _candidate(
    asked: Asked,
    budget: Budget,
    model: LatencyModel,
    cap: int | None,
    think: ThinkMode,
    given_up: tuple[Sacrifice, ...],
) -> _Candidate:
    grids = asked.grids(cap)
    kept = asked.kept(grids)
    preprocess, vision = model.around(), NOTHING
    for place, (picture, grid) in enumerate(zip(asked.pictures, grids, strict=True)):
        if place in kept.pictures:
            continue
        preprocess += model.picture(
            pixels=picture.width * picture.height,
            patches=grid.tokens,
            encoded=picture.encoded,
            grid_is_known=grid in asked.known_grids,
        )
        vision += model.encoding(grid.tokens)
    rows = asked.text_tokens + sum(grid.tokens for grid in grids)
    answer_tokens = asked.answer_room(budget)
    closing_tokens = 0 if think == "off" else asked.closing_tokens + (budget.min_think_tokens or 0)
    first, chunk_tokens = min(rows + 1, asked.context), model.best_chunk(rows - kept.rows)
    return _Candidate(
        cap=cap,
        grids=grids,
        think=think,
        given_up=given_up,
        rows=rows,
        chunk_tokens=chunk_tokens,
        answer_tokens=answer_tokens,
        preprocess=preprocess,
        vision=vision,
        prefill=model.prefill(rows, past=kept.rows, chunk_tokens=chunk_tokens),
        closing=model.steps(closing_tokens, first),
        answer=model.steps(answer_tokens, first + closing_tokens),
        slowest_token_ms=model.one_step(first + closing_tokens + answer_tokens).high_ms,
        model=model,
    )


def _lacks(candidate: _Candidate, budget: Budget, spent_ms: float) -> dict[str, tuple[float, float]]:
    """By the name of each limit that is not met: the limit, and what is needed."""
    needed = {
        "deadline_ms": spent_ms + candidate.least.high_ms,
        "ttft_ms": spent_ms + candidate.until_first_token.high_ms,
        "token_ms": candidate.slowest_token_ms,
    }
    limits = {name: getattr(budget, name) for name in needed}
    return {name: (limit, needed[name]) for name, limit in limits.items() if limit is not None and needed[name] > limit}


def _plan(candidate: _Candidate, asked: Asked, budget: Budget, model: LatencyModel, pace: Pace) -> Plan:
    asked_grids = asked.grids(asked.max_visual_tokens)
    first, least = candidate.until_first_token, candidate.least
    return Plan(
        prompt_tokens=asked.text_tokens,
        visual_tokens=tuple(grid.tokens for grid in candidate.grids),
        asked_visual_tokens=tuple(grid.tokens for grid in asked_grids),
        max_visual_tokens=candidate.cap,
        think=candidate.think,
        thinking_tokens=_thinking_room(candidate, asked, budget, model),
        answer_tokens=candidate.answer_tokens,
        chunk_tokens=candidate.chunk_tokens,
        given_up=_truly_given_up(candidate, asked, asked_grids),
        forecast=Forecast(
            spent=asked.spent_ms,
            preprocess=candidate.preprocess.high_ms,
            vision=candidate.vision.high_ms,
            prefill=candidate.prefill.high_ms,
            first_token=asked.spent_ms + first.high_ms,
            closing=candidate.closing.high_ms,
            answer=candidate.answer.high_ms,
            total=asked.spent_ms + least.high_ms,
            usual_first_token=asked.spent_ms + pace.usual_ms(first),
            usual_total=asked.spent_ms + pace.usual_ms(least),
            quantile=model.quantile,
            slowdown=pace.slowdown,
            joint=model.joint,
            lately=pace.lately,
        ),
    )


def _truly_given_up(candidate: _Candidate, asked: Asked, grids: tuple[Grid, ...]) -> tuple[Sacrifice, ...]:
    lost = {"visual": candidate.grids != grids, "thinking": candidate.think != asked.think}
    return tuple(name for name in candidate.given_up if lost[name])


def _thinking_room(candidate: _Candidate, asked: Asked, budget: Budget, model: LatencyModel) -> int | None:
    """How many tokens may be thought in the time that is left over; None where nothing bounds it."""
    if candidate.think == "off":
        return 0
    most = budget.think_tokens
    if budget.deadline_ms is None:
        return most
    left_ms = budget.deadline_ms - asked.spent_ms - candidate.least.high_ms
    room = min(asked.max_new_tokens, asked.context - candidate.rows) - candidate.answer_tokens
    low, high = 0, max(0, room if most is None else min(room, most))
    while low < high:
        middle = (low + high + 1) // 2
        if model.steps(middle, candidate.rows + 1).high_ms <= left_ms:
            low = middle
        else:
            high = middle - 1
    return low + min(budget.min_think_tokens or 0, high)


def _refusal(candidate: _Candidate, asked: Asked, budget: Budget, model: LatencyModel, slowdown: float) -> BudgetError:
    """The error for the request at its cheapest, with the nearest budget."""
    lacks = _lacks(candidate, budget, asked.spent_ms)
    parts = (
        f"{asked.spent_ms:.1f} ms spent, preprocess {candidate.preprocess.high_ms:.1f}, "
        f"{sum(grid.tokens for grid in candidate.grids)} visual tokens {candidate.vision.high_ms:.1f}, "
        f"prefill of {candidate.rows} {candidate.prefill.high_ms:.1f}"
    )
    if "deadline_ms" in lacks:
        parts += f", closing {candidate.closing.high_ms:.1f}, {candidate.answer_tokens} tokens of the answer "
        parts += f"{candidate.answer.high_ms:.1f}"
    if slowdown > 1:
        parts += f"; requests took {slowdown:.1f} times the profile lately"
    told = " and ".join(f"{name} {limit:g} needs {needed:.1f} ms" for name, (limit, needed) in lacks.items())
    nearest = ", ".join(f"{name}={_rounded_up(needed)}" for name, (_, needed) in lacks.items())
    return BudgetError(
        f"the budget cannot be met: {told} ({parts})", remedy=f"give {nearest}" + _cheaper(asked, budget, model)
    )


def _cheaper(asked: Asked, budget: Budget, model: LatencyModel) -> str:
    """What would be needed if everything might be given up that is not yet."""
    further = tuple(name for name in ("visual", "thinking") if name not in budget.may_give_up)
    if not further:
        return ""
    cap = asked.facts.min_num_patches if asked.pictures else None
    least = _candidate(asked, budget, model, cap, "off", ("visual", "thinking"))
    spent_ms = asked.spent_ms
    return (
        "; with on_infeasible='degrade' the least that can be met is "
        f"deadline_ms={_rounded_up(spent_ms + least.least.high_ms)}, "
        f"ttft_ms={_rounded_up(spent_ms + least.until_first_token.high_ms)}"
    )


def _rounded_up(ms: float) -> int:
    """A little above, as what has been spent so far differs from call to call."""
    return int(1.02 * ms) + 1
