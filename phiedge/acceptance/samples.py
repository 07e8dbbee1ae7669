"""One measured request."""

from dataclasses import dataclass
from itertools import pairwise

from phiedge.acceptance.requester import Answered
from phiedge.acceptance.spec import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Milliseconds. `intended_ms` is since the start of its workload's run, `late_ms` how long it waited for its turn;
    latencies include that wait. A metric that the request did not come to is None.
    """

    start: int
    first: bool
    intended_ms: float
    late_ms: float
    ttft_ms: float | None
    e2e_ms: float
    token_mean_ms: float | None
    token_max_ms: float | None
    tokens: int
    finish: str
    phases_ms: dict[str, float]

    @staticmethod
    def of(
        answered: Answered, *, intended_ns: int, started_ns: int, begun_ns: int, start: int, first: bool
    ) -> "Sample":
        """From moments to durations."""
        came = answered.token_ns
        steps = [(later - earlier) / 1e6 for earlier, later in pairwise(came)]
        return Sample(
            start=start,
            first=first,
            intended_ms=(intended_ns - begun_ns) / 1e6,
            late_ms=max(0.0, (started_ns - intended_ns) / 1e6),
            ttft_ms=(came[0] - intended_ns) / 1e6 if came else None,
            e2e_ms=(answered.ended_ns - intended_ns) / 1e6,
            token_mean_ms=sum(steps) / len(steps) if steps else None,
            token_max_ms=max(steps) if steps else None,
            tokens=len(came),
            finish=answered.finish,
            phases_ms=answered.phases_ms,
        )

    def metric(self, name: Metric) -> float | None:
        """The latency that a budget is about."""
        value: float | None = getattr(self, name)
        return value
