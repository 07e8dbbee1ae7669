"""Decides, before anything is computed, whether and how a request can meet its budget.

The least that a request must have time for is its pictures, its prompt, the close of a thinking (which the model may
start unless it is told not to) and the room that is kept for the answer. What time is left over is room for thinking.
What does not fit as it was asked is refused with the numbers, or made to fit by giving up what the budget allows, as
little of it as will do.
"""

from dataclasses import dataclass, replace
from typing import get_args

from phiedge.errors import BudgetError
from phiedge.runtime.budget import Budget, Sacrifice
from phiedge.runtime.latency_model import Estimate, LatencyModel
from phiedge.runtime.plan import Forecast, Plan
from phiedge.runtime.preprocess import Grid
from phiedge.runtime.ways import Asked, Way, Ways

_CAUTIONS = (0.5, 0.25, 1e-6)
"""What is tried without a promise, by shares of the excess that a promise allows; with none, what is usual must fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Times of their profile that requests are believed to take: where something is promised, and usually."""

    slowdown: float
    lately: float

    def usual_ms(self, estimate: Estimate) -> float:
        """What something takes usually now, of which the slowed model says `estimate`."""
        return estimate.usual_ms / self.slowdown * self.lately


def admit(
    asked: Asked, budget: Budget, model: LatencyModel, *, slowdown: float = 1.0, lately: float | None = None
) -> Plan:
    """The plan for a request. Raises `BudgetError` with the numbers and with the nearest budget that can be met.

    `slowdown` is what the model has in it already, as promises go by it. Requests took `lately` times of their profile,
    which usual times go by; as slow, where nothing else is known.
    """
    pace, ways = Pace(slowdown=slowdown, lately=slowdown if lately is None else lately), Ways(asked, budget, model)
    way = ways.feasible()
    if not ways.lacks(way):
        return _plan(_worth_thinking(way, ways), ways, pace)
    refusal = _refusal(way, ways, slowdown)
    if budget.on_infeasible != "attempt":
        raise refusal
    return replace(_attempted(way, ways, pace), unpromised=refusal.message)


def _attempted(cheapest: Way, ways: Ways, pace: Pace) -> Plan:
    """The plan for what cannot be promised: the one that would be promised with less caution, or the cheapest.

    An attempt goes by how the machine is now, for better or worse. Last, there is time for a beginning of the answer,
    which may be all of it.
    """
    now = ways.slowed(pace.lately / pace.slowdown)
    for bolder in (*map(now.bolder, _CAUTIONS), now.bolder(_CAUTIONS[-1]).with_room(1)):
        tried = bolder.feasible()
        if not bolder.lacks(tried):
            tried = _worth_thinking(tried, bolder)
            plan = _plan(ways.way(tried.reading.cap, tried.think, tried.given_up), ways, pace)
            return replace(plan, thinking_tokens=_thinking_room(tried, bolder))
    return _plan(cheapest, ways, pace)


def _worth_thinking(way: Way, ways: Ways) -> Way:
    """The same without thinking, where that may be given up and would most likely be cut.

    What was cut says little, and many models then go on with it in their answer: it is worth less than none. How long
    the model thinks is known from requests before; of the first, not even as long as the answer is taken for too short.
    """
    room = _thinking_room(way, ways)
    if "thinking" not in ways.budget.may_give_up or way.think == "off" or room is None:
        return way
    usual = ways.asked.usual_thinking_tokens
    if ways.budget.deadline_ms is None or room >= (way.answer_tokens if usual is None else usual):
        return way
    without = ways.best(ways.budget.may_give_up)
    return way if ways.lacks(without) else without


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


def _plan(way: Way, ways: Ways, pace: Pace) -> Plan:
    asked, reading = ways.asked, way.reading
    asked_grids = ways.grids_as_asked
    first, least = way.until_first_token, way.least
    return Plan(
        prompt_tokens=asked.text_tokens,
        visual_tokens=tuple(grid.tokens for grid in reading.grids),
        asked_visual_tokens=tuple(grid.tokens for grid in asked_grids),
        max_visual_tokens=reading.cap,
        think=way.think,
        thinking_tokens=_thinking_room(way, ways),
        answer_tokens=way.answer_tokens,
        chunk_tokens=reading.chunk_tokens,
        given_up=_truly_given_up(way, asked, asked_grids),
        forecast=Forecast(
            spent=asked.spent_ms,
            preprocess=reading.preprocess.high_ms,
            vision=reading.vision.high_ms,
            prefill=reading.prefill.high_ms,
            first_token=asked.spent_ms + first.high_ms,
            closing=way.closing.high_ms,
            answer=way.answer.high_ms,
            total=asked.spent_ms + least.high_ms,
            usual_first_token=asked.spent_ms + pace.usual_ms(first),
            usual_total=asked.spent_ms + pace.usual_ms(least),
            quantile=ways.model.quantile,
            slowdown=pace.slowdown,
            joint=ways.model.joint,
            lately=pace.lately,
        ),
    )


def _truly_given_up(way: Way, asked: Asked, grids: tuple[Grid, ...]) -> tuple[Sacrifice, ...]:
    lost = {"visual": way.reading.grids != grids, "thinking": way.think != asked.think}
    return tuple(name for name in way.given_up if lost[name])


def _thinking_room(way: Way, ways: Ways) -> int | None:
    """How many tokens may be thought in the time that is left over; None where nothing bounds it."""
    asked, budget = ways.asked, ways.budget
    if way.think == "off":
        return 0
    most = budget.think_tokens
    if budget.deadline_ms is None:
        return most
    left_ms = budget.deadline_ms - asked.spent_ms - way.least.high_ms
    room = min(asked.max_new_tokens, asked.context - way.reading.rows) - way.answer_tokens
    low, high = 0, max(0, room if most is None else min(room, most))
    while low < high:
        middle = (low + high + 1) // 2
        if ways.model.steps(middle, way.reading.rows + 1).high_ms <= left_ms:
            low = middle
        else:
            high = middle - 1
    return low + min(budget.min_think_tokens or 0, high)


def _refusal(way: Way, ways: Ways, slowdown: float) -> BudgetError:
    """The error for the request at its cheapest, with the nearest budget."""
    lacks, spent_ms, reading = ways.lacks(way), ways.asked.spent_ms, way.reading
    parts = (
        f"{spent_ms:.1f} ms spent, preprocess {reading.preprocess.high_ms:.1f}, "
        f"{sum(grid.tokens for grid in reading.grids)} visual tokens {reading.vision.high_ms:.1f}, "
        f"prefill of {reading.rows} {reading.prefill.high_ms:.1f}"
    )
    if "deadline_ms" in lacks:
        parts += f", closing {way.closing.high_ms:.1f}, {way.answer_tokens} tokens of the answer "
        parts += f"{way.answer.high_ms:.1f}"
    if slowdown > 1:
        parts += f"; requests took {slowdown:.1f} times the profile lately"
    told = " and ".join(f"{name} {limit:g} needs {needed:.1f} ms" for name, (limit, needed) in lacks.items())
    nearest = ", ".join(f"{name}={_rounded_up(needed)}" for name, (_, needed) in lacks.items())
    return BudgetError(f"the budget cannot be met: {told} ({parts})", remedy=f"give {nearest}" + _cheaper(ways))


def _cheaper(ways: Ways) -> str:
    """What would be needed if everything might be given up that is not yet."""
    if all(name in ways.budget.may_give_up for name in get_args(Sacrifice)):
        return ""
    cap = ways.asked.facts.min_num_patches if ways.asked.pictures else None
    least, spent_ms = ways.way(cap, "off", get_args(Sacrifice)), ways.asked.spent_ms
    return (
        "; with on_infeasible='degrade' the least that can be met is "
        f"deadline_ms={_rounded_up(spent_ms + least.least.high_ms)}, "
        f"ttft_ms={_rounded_up(spent_ms + least.until_first_token.high_ms)}"
    )


def _rounded_up(ms: float) -> int:
    """A little above, as what has been spent so far differs from call to call."""
    return int(1.02 * ms) + 1
