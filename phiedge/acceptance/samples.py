"""One measured request."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import get_args

from phiedge.acceptance.budgets import Metric
from phiedge.acceptance.requester import Answered

_SCALED = get_args(Metric)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Milliseconds. `at_s` is when it was meant to start, since the campaign began, `late_ms` how long it waited for
    its turn; latencies include that wait. A metric that the request did not come to is None.

    `answer_ms` is there only where the model itself ended its answer and that has the form that was asked for
    (`formed`, None without one), `overrun_ms` where there was a deadline (0 if it
    was kept, or the request refused), `abort_ms` where the request was running when it was cancelled. `case` and
    `right` are of requests whose answer is known.
    """

    start: int
    first: bool
    at_s: float
    late_ms: float
    ttft_ms: float | None
    e2e_ms: float | None
    token_mean_ms: float | None
    token_max_ms: float | None
    answer_ms: float | None
    overrun_ms: float | None
    abort_ms: float | None
    tokens: int
    finish: str
    phases_ms: dict[str, float]
    case: int | None
    right: bool | None
    said: str | None
    formed: bool | None

    @staticmethod
    def of(
        answered: Answered,
        *,
        intended_ns: int,
        started_ns: int,
        begun_ns: int,
        start: int,
        first: bool,
        deadline_ms: float | None,
    ) -> "Sample":
        """From moments to durations; `begun_ns` is when the campaign began."""
        came, cancelled_ns = answered.token_ns, answered.cancelled_ns
        steps = [(later - earlier) / 1e6 for earlier, later in pairwise(came)]
        e2e_ms = None if answered.finish == "refused" else (answered.ended_ns - intended_ns) / 1e6
        answered_whole = answered.finish == "stop" and answered.formed is not False
        return Sample(
            start=start,
            first=first,
            at_s=(intended_ns - begun_ns) / 1e9,
            late_ms=max(0.0, (started_ns - intended_ns) / 1e6),
            ttft_ms=(came[0] - intended_ns) / 1e6 if came else None,
            e2e_ms=e2e_ms,
            token_mean_ms=sum(steps) / len(steps) if steps else None,
            token_max_ms=max(steps) if steps else None,
            answer_ms=e2e_ms if answered_whole else None,
            overrun_ms=None if deadline_ms is None else max(0.0, (e2e_ms or 0.0) - deadline_ms),
            abort_ms=None if cancelled_ns is None else (answered.ended_ns - cancelled_ns) / 1e6,
            tokens=len(came),
            finish=answered.finish,
            phases_ms=answered.phases_ms,
            case=answered.case,
            right=answered.right,
            said=answered.said,
            formed=answered.formed,
        )

    def metric(self, name: Metric) -> float | None:
        """The latency that a budget is about."""
        value: float | None = getattr(self, name)
        return value

    def slowed(self, factor: float) -> "Sample":
        """The same request where everything takes `factor` times as long."""
        known = {name: getattr(self, name) for name in _SCALED}
        return replace(self, **{name: factor * value for name, value in known.items() if value is not None})
