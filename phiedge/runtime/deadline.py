"""Keeps one request within its budget while it runs.

The clock is read before every picture, every chunk of the prompt and every token. What would end late is not begun;
thinking is closed when only the room for the answer is left; and a watchdog ends what does not come back. A request
without a budget has a keeper that always agrees (`FREE`).
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

from phiedge.runtime.budget import Budget
from phiedge.runtime.drift import Drift
from phiedge.runtime.latency_model import Estimate, LatencyModel
from phiedge.runtime.pace import ObservedPace, ProfiledPace
from phiedge.runtime.plan import Forecast, Plan
from phiedge.runtime.result import Outcome

_NEVER = float("inf")
_HOPELESS = 0.5
"""A prompt is left where not even so much of the usual time is there; above that, the watchdog ends what is late."""
_WORTH_A_CHUNK = 3  # known tokens, where no profile tells: a step mostly waits for weights, which a chunk reads once


class Free:
    """The keeper of a request without a budget."""

    plan: Plan | None = None

    @property
    def thinking_was_closed(self) -> bool:
        """Whether the thinking ended for want of time or tokens, and not by itself."""
        return False

    @property
    def watch_ns(self) -> int | None:
        """When the watchdog shall end what runs, for the request to end by its deadline; None without one."""
        return None

    def allows_picture(self, patches: int, rows: int, *, past: int = 0) -> bool:
        """Whether a picture may be encoded, with the rows from `past` to `rows` to compute after it."""
        return True

    def allows_chunk(self, start: int, rows: int) -> bool:
        """Whether the chunk from row `start` of `rows` may be computed."""
        return True

    def allows_step(self, context: int) -> bool:
        """Whether one more token may be computed, over `context` positions, itself included."""
        return True

    def prefers_chunk(self, count: int, context: int) -> bool:
        """Whether to compute `count` known tokens after `context` positions at once, rather than one by one."""
        return count >= _WORTH_A_CHUNK

    def allows_known(self, count: int, context: int) -> bool:
        """Whether `count` known tokens may be computed at once, after `context` positions."""
        return True

    def has_time(self, steps: int, context: int) -> bool:
        """Whether there is time for so many tokens more, after `context` positions."""
        return True

    def settle(self, token: int, *, thinking: bool, thought: int, context: int) -> int:
        """The token to take where the model chose `token`, in its thinking or its answer, after `context` positions."""
        return token

    def outcome(self, *, stopped: bool, watchdog: bool, first_token_ms: float | None) -> Outcome | None:
        """How it fared; `stopped` if it ended by its deadline."""
        return None


FREE = Free()


class Keeper(Free):
    """The keeper of one request that began at `begun_ns`.

    `closing` are the tokens that close a thinking, its end mark last; `extending` those that put the end off; `ends`
    the marks after which nothing is left to close.
    """

    def __init__(
        self,
        *,
        budget: Budget,
        plan: Plan,
        model: LatencyModel | None,
        pace: ProfiledPace | ObservedPace,
        drift: Drift,
        closing: Sequence[int],
        extending: Sequence[int],
        ends: frozenset[int],
        begun_ns: int,
        clock_ns: Callable[[], int],
        wrap_up_ns: float = 0.0,
    ) -> None:
        self.plan: Plan = plan
        self._budget, self._model, self._pace = budget, model, pace
        self._drift = drift
        self._closing, self._extending, self._ends = tuple(closing), tuple(extending), ends
        self._begun_ns, self._clock_ns = begun_ns, clock_ns
        self._due_ns = _NEVER if budget.deadline_ms is None else begun_ns + budget.deadline_ms * 1e6
        # Leaving the loop and making the result comes after the last token.
        self._wrap_up_ns = wrap_up_ns
        self._stopping_ns = self._wrap_up_ns + (0.0 if model is None else 1e6 * model.abort_usual_ms)
        self._most_thought = _NEVER if budget.think_tokens is None else float(budget.think_tokens)
        self._think_ns = _NEVER if budget.think_ms is None else budget.think_ms * 1e6
        self._thinking_since_ns: int | None = None
        self._forced: deque[int] = deque()
        self._closed: Literal["time", "tokens"] | None = None
        self._step_begun_ns: int | None = None
        self._slowest_ns = self._steps_ns = self._steps = 0
        if plan.forecast is not None:
            pace.begin(plan.forecast.slowdown, plan.forecast.joint)

    @property
    def watch_ns(self) -> int | None:
        return None if self._due_ns == _NEVER else int(self._due_ns - self._stopping_ns)

    @property
    def thinking_was_closed(self) -> bool:
        return self._closed is not None

    def allows_picture(self, patches: int, rows: int, *, past: int = 0) -> bool:
        if self._model is None:
            return self._left_ns() > 0
        usual = self._model.encoding(patches) + self._model.prefill(rows, past=past)
        return self._left_ns() > _HOPELESS * 1e6 * usual.usual_ms

    def allows_chunk(self, start: int, rows: int) -> bool:
        if self._model is None:
            return self._left_ns() > 0
        return self._left_ns() > _HOPELESS * 1e6 * self._model.prefill(rows, past=start).usual_ms

    def allows_step(self, context: int) -> bool:
        now_ns = self._clock_ns()
        if now_ns + self._pace.step_ns(context) + self._wrap_up_ns > self._due_ns:
            return False
        self._step_begun_ns = now_ns
        return True

    def prefers_chunk(self, count: int, context: int) -> bool:
        if self._model is None:
            return super().prefers_chunk(count, context)
        chunk = self._model.prefill_chunk(count, context)
        return chunk.usual_ms < self._model.steps(count, context + 1).usual_ms

    def allows_known(self, count: int, context: int) -> bool:
        self._step_begun_ns = None  # what it takes tells nothing about a step
        if self._model is None:
            return self.has_time(count, context)
        needed_ns = max(1e6 * self._model.prefill_chunk(count, context).high_ms, self._pace.step_ns(context + count))
        return self._clock_ns() + needed_ns + self._wrap_up_ns <= self._due_ns

    def has_time(self, steps: int, context: int) -> bool:
        if steps <= 0 or self._due_ns == _NEVER:
            return True
        # What they take usually, and the last as long as it must have to be begun. A form asks: more caution would cut
        # answers that had the time, and where it was too little, their end is written down.
        last_ns, before_ns = self._pace.step_ns(context + steps), self._pace.usual_ns(steps - 1, context + 1)
        return self._clock_ns() + before_ns + last_ns + self._wrap_up_ns <= self._due_ns

    def settle(self, token: int, *, thinking: bool, thought: int, context: int) -> int:
        now_ns = self._clock_ns()
        if self._step_begun_ns is not None:
            spent_ns = now_ns - self._step_begun_ns
            self._pace.observe(spent_ns, context)
            self._slowest_ns = max(self._slowest_ns, spent_ns)
            self._steps_ns, self._steps = self._steps_ns + spent_ns, self._steps + 1
        if self._forced:
            return self._forced.popleft()
        if not thinking:
            return token
        if self._thinking_since_ns is None:
            self._thinking_since_ns = now_ns
        if token in self._ends:
            return self._maybe_extended(token, thought, now_ns, context)
        if self._has_time_to_think(now_ns, context):
            if thought < self._most_thought and now_ns - self._thinking_since_ns < self._think_ns:
                return token
            self._closed = "tokens" if thought >= self._most_thought else "time"
        else:
            self._closed = "time"
        return self._force(self._closing)

    def outcome(self, *, stopped: bool, watchdog: bool, first_token_ms: float | None) -> Outcome | None:
        forecast = self.plan.forecast
        if forecast is not None:
            self._tell_drift(forecast, first_token_ms)
        left_ns = self._left_ns()
        limited = self._due_ns != _NEVER
        ttft_ms = self._budget.ttft_ms
        late = None if ttft_ms is None or first_token_ms is None else max(0.0, first_token_ms - ttft_ms)
        return Outcome(
            promised=self.plan.unpromised is None,
            slack_ms=max(0.0, left_ns / 1e6) if limited else None,
            overrun_ms=max(0.0, -left_ns / 1e6) if limited else None,
            ttft_overrun_ms=late,
            slowest_token_ms=self._slowest_ns / 1e6 if self._slowest_ns else None,
            thinking_closed=self._closed,
            stopped_by=("watchdog" if watchdog else "clock") if stopped else None,
        )

    def _tell_drift(self, forecast: Forecast, first_token_ms: float | None) -> None:
        """What this request took beside what the profile expected. One that was ended before took longer than that."""
        assert self._model is not None
        usual_ms = (forecast.usual_first_token - forecast.spent) / forecast.lately
        high_ms = (forecast.first_token - forecast.spent) / forecast.slowdown
        excess_ms = (high_ms - usual_ms) / forecast.joint
        expected = Estimate(usual_ms=usual_ms, excess_ms=excess_ms)
        if first_token_ms is None:
            spent_ms = (self._clock_ns() - self._begun_ns) / 1e6 - forecast.spent
            if spent_ms > usual_ms:
                self._drift.observe(spent_ms, expected)
            return
        expected += self._model.steps(self._steps, self.plan.rows + 1)
        self._drift.observe(first_token_ms - forecast.spent + self._steps_ns / 1e6, expected)

    def _left_ns(self) -> float:
        return self._due_ns - self._clock_ns()

    def _has_time_to_think(self, now_ns: int, context: int) -> bool:
        """Whether there is time for this token, the close of the thinking after it, and the room for the answer."""
        count = 1 + len(self._closing) + self.plan.answer_tokens
        return now_ns + self._pace.steps_ns(count, context + 1) + self._wrap_up_ns <= self._due_ns

    def _maybe_extended(self, token: int, thought: int, now_ns: int, context: int) -> int:
        """The end of the thinking that the model chose, or what puts it off."""
        wanted = self._budget.min_think_tokens
        if wanted is None or thought >= wanted or not self._extending or not self._has_time_to_think(now_ns, context):
            return token
        return self._force(self._extending)

    def _force(self, tokens: Sequence[int]) -> int:
        self._forced.extend(tokens)
        return self._forced.popleft()
