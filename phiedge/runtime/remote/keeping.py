"""A budget over a server: what is refused before it is asked, how long an event may be waited for, and how it fared."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from phiedge.errors import BudgetError, UsageError
from phiedge.runtime.budget import Budget
from phiedge.runtime.prompt import ThinkMode
from phiedge.runtime.remote.pace import ServerPace
from phiedge.runtime.request import Request
from phiedge.runtime.result import Outcome
from phiedge.runtime.stopwatch import Stopwatch

MARGIN_MS = 5.0  # between the end of the waiting and the result
_LOCAL_ONLY = ("think_tokens", "think_ms", "min_think_tokens", "min_visual_tokens")


@dataclass(slots=True, kw_only=True)
class ServerKeeper:
    """Keeps one request's budget, or none; `think` is how it shall think."""

    budget: Budget | None
    think: ThinkMode
    promised: bool
    started_ns: int
    clock_ns: Callable[[], int] = time.perf_counter_ns
    slowest_ms: float | None = field(default=None)
    _last_ns: int | None = field(default=None)

    def wait_ms(self, most_ms: float) -> float:
        """How long the next event may be waited for."""
        left = self._left_ms()
        return most_ms if left is None else max(0.001, min(most_ms, left - MARGIN_MS))

    @property
    def is_over(self) -> bool:
        """Whether the deadline is as good as there."""
        left = self._left_ms()
        return left is not None and left <= MARGIN_MS

    def note_token(self) -> None:
        """A token came."""
        now_ns = self.clock_ns()
        if self._last_ns is not None:
            self.slowest_ms = max(self.slowest_ms or 0.0, (now_ns - self._last_ns) / 1e6)
        self._last_ns = now_ns

    def outcome(self, *, stopped: bool, first_token_ms: float | None) -> Outcome | None:
        """How it fared, None without a budget."""
        if self.budget is None:
            return None
        left, ttft_ms = self._left_ms(), self.budget.ttft_ms
        late = None if ttft_ms is None or first_token_ms is None else max(0.0, first_token_ms - ttft_ms)
        return Outcome(
            promised=self.promised,
            slack_ms=None if left is None else max(0.0, left),
            overrun_ms=None if left is None else max(0.0, -left),
            ttft_overrun_ms=late,
            slowest_token_ms=self.slowest_ms,
            thinking_closed=None,
            stopped_by="clock" if stopped else None,
        )

    def _left_ms(self) -> float | None:
        if self.budget is None or self.budget.deadline_ms is None:
            return None
        return self.budget.deadline_ms - (self.clock_ns() - self.started_ns) / 1e6


def admit(request: Request, pace: ServerPace, *, rows_of: Callable[[ThinkMode], int], watch: Stopwatch) -> ServerKeeper:
    """Decide a request by what the server's last ones took. Raises `BudgetError`, `UsageError`."""
    budget = request.budget
    if budget is None:
        return _keeper(request, None, request.think, watch, promised=False)
    _check_keepable(budget)
    if not pace.known:
        return _keeper(request, budget, request.think, watch, promised=False)
    spent_ms = watch.timings(load_ns=0).total
    missed = _missed(budget, pace, rows_of(request.think), spent_ms)
    if missed is not None and budget.on_infeasible != "attempt":
        raise BudgetError(
            f"the server would miss the budget: {missed}",
            remedy="give more time, ask for less with max_visual_tokens, or on_infeasible='attempt'",
        )
    return _keeper(request, budget, request.think, watch, promised=missed is None)


def _missed(budget: Budget, pace: ServerPace, rows: int, spent_ms: float) -> str | None:
    """Which limit its last requests would not have met, with both numbers."""
    first_ms, token_ms = spent_ms + pace.first_token_ms(rows), pace.token_ms()
    total_ms = first_ms + token_ms * budget.answer_reserve
    wanted = (("ttft_ms", budget.ttft_ms, first_ms), ("token_ms", budget.token_ms, token_ms))
    for name, limit, found in (*wanted, ("deadline_ms", budget.deadline_ms, total_ms)):
        if limit is not None and found > limit:
            return f"{name} is {limit:g}, its last requests make it {found:.1f}"
    return None


def _check_keepable(budget: Budget) -> None:
    given = [name for name in _LOCAL_ONLY if getattr(budget, name) is not None]
    if budget.on_infeasible == "degrade":
        given.append("on_infeasible='degrade'")
    if given:
        raise UsageError(
            f"{given[0]} cannot be kept over a server, which neither closes a thinking nor shrinks a picture",
            remedy="use deadline_ms, ttft_ms, token_ms, think='off' and max_visual_tokens",
        )


def _keeper(
    request: Request, budget: Budget | None, think: ThinkMode, watch: Stopwatch, *, promised: bool
) -> ServerKeeper:
    return ServerKeeper(budget=budget, think=think, promised=promised, started_ns=watch.started_ns)
