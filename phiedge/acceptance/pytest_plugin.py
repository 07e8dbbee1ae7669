"""Latency budgets in a pytest suite, with the statistics and verdicts of `phiedge accept`.

    @pytest.mark.latency_budget(limit_ms=200, quantile=0.95)
    def test_a_tick_is_answered_in_time(latency_budget):
        latency_budget.check(lambda: session.generate("What is on the screen?", ["screen.png"]))

Whatever is called is measured as a whole (`e2e_ms`). Anything but PASS fails the test, with the reason. The mark also
takes every option of `[statistics]` and `[environment]` in a spec, and `period_ms` for calls that come at their time.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import pytest

from phiedge.acceptance.budgets import LatencyBudget
from phiedge.acceptance.campaign import run_campaign
from phiedge.acceptance.environment import LinuxWatcher
from phiedge.acceptance.judgement import Judgement, judge
from phiedge.acceptance.preconditions import Preconditions
from phiedge.acceptance.requester import Answered, Requester, Turn
from phiedge.acceptance.sensors import Sensors
from phiedge.acceptance.spec import Arrival, Spec, Statistics, Workload
from phiedge.errors import UsageError, nearest

MARK = "latency_budget"
_BUDGET = ("limit_ms", "quantile")
_STATISTICS = tuple(field.name for field in fields(Statistics))
_PRECONDITIONS = tuple(field.name for field in fields(Preconditions))


@dataclass(frozen=True, slots=True)
class _Called:
    """A function as a device: it answers when it returns."""

    call: Callable[[], object]

    def request(self, workload: Workload, turn: Turn) -> Answered:
        self.call()
        return Answered(token_ns=(), ended_ns=time.perf_counter_ns(), phases_ms={}, finish="stop")

    @contextmanager
    def open(self) -> Iterator[Requester]:
        yield self


@dataclass(frozen=True, slots=True)
class LatencyCheck:
    """Measures a function against the budget of a test."""

    spec: Spec

    def measure(self, call: Callable[[], object]) -> Judgement:
        """Call it as often as the plan takes, and judge. Exceptions of `call` come through."""
        wanted = self.spec.preconditions
        watcher = LinuxWatcher(wanted, sensors=Sensors() if wanted.sensed else None)
        return judge(self.spec, run_campaign(self.spec, _Called(call).open, watcher))

    def check(self, call: Callable[[], object]) -> None:
        """Measure, and fail the test unless the verdict is PASS."""
        judged = self.measure(call)
        if judged.verdict != "PASS":
            pytest.fail(f"{judged.verdict}: {'; '.join(judged.reasons)}", pytrace=False)


def spec_of_mark(name: str, options: Mapping[str, Any]) -> Spec:
    """The spec that a mark stands for. Raises `UsageError` for an option that there is not."""
    known = (*_BUDGET, "period_ms", *_STATISTICS, *_PRECONDITIONS)
    for option in options:
        if option not in known:
            close = nearest(option, known, count=1)
            raise UsageError(
                f"latency_budget takes no {option!r}",
                remedy=f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}",
            )
    for option in _BUDGET:
        if option not in options:
            raise UsageError(
                f"latency_budget lacks {option}", remedy="as in latency_budget(limit_ms=200, quantile=0.95)"
            )
    period_ms = options.get("period_ms")
    arrival = (
        Arrival(kind="closed", pause_ms=0.0) if period_ms is None else Arrival(kind="periodic", period_ms=period_ms)
    )
    chosen = {"plan": "sequential"} | {key: options[key] for key in _STATISTICS if key in options}
    return Spec(
        workloads=(Workload(name=name, prompt=name, arrival=arrival),),
        budgets=(
            LatencyBudget(workload="*", metric="e2e_ms", limit_ms=options["limit_ms"], quantile=options["quantile"]),
        ),
        statistics=Statistics(**chosen),
        preconditions=Preconditions(**{key: options[key] for key in _PRECONDITIONS if key in options}),
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", f"{MARK}(limit_ms, quantile, ...): the latency budget of this test")


@pytest.fixture
def latency_budget(request: pytest.FixtureRequest) -> LatencyCheck:
    """Measures a function against the test's `@pytest.mark.latency_budget(limit_ms=..., quantile=...)`."""
    mark = request.node.get_closest_marker(MARK)
    if mark is None:
        raise UsageError(
            "the fixture latency_budget needs a budget",
            remedy="mark the test with @pytest.mark.latency_budget(limit_ms=200, quantile=0.95)",
        )
    return LatencyCheck(spec_of_mark(request.node.name, mark.kwargs))
