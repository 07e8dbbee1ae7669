"""A session that only lets time pass by a law, on a clock of its own: campaigns of hours take milliseconds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from phiedge.acceptance import arrivals, campaign
from phiedge.acceptance.environment import Figures, Watched
from phiedge.acceptance.requester import Answered, Requester, Turn
from phiedge.acceptance.spec import Workload


@dataclass
class FakeClock:
    """Nanoseconds that pass when somebody waits."""

    now_ns: int = 1_000_000_000

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(campaign.time, "perf_counter_ns", lambda: self.now_ns)
        monkeypatch.setattr(campaign, "wait_until", self.wait_until)
        assert arrivals.time is campaign.time

    def wait_until(self, moment_ns: int) -> None:
        self.now_ns = max(self.now_ns, moment_ns)

    def pass_ms(self, duration_ms: float) -> int:
        self.now_ns += round(1e6 * duration_ms)
        return self.now_ns


@dataclass
class NullRequester:
    """Answers the n-th request in `law(n)` milliseconds: its first token after half of it, the second at the end.

    One that is cancelled before that ends `abort_ms` after it was.
    """

    clock: FakeClock
    law: Callable[[int], float]
    finish: Callable[[int], str] = lambda number: "stop"
    abort_ms: float = 0.0
    cases: int = 0
    right: Callable[[int], bool] = lambda case: True
    asked: int = 0
    opened: int = 0

    def request(self, workload: Workload, turn: Turn) -> Answered:
        duration_ms = self.law(self.asked)
        self.asked += 1
        after_ms = turn.cancel_after_ms
        if after_ms is not None and after_ms < duration_ms:
            cancelled_ns = self.clock.pass_ms(after_ms)
            ended_ns = self.clock.pass_ms(self.abort_ms)
            return Answered(token_ns=(), ended_ns=ended_ns, phases_ms={}, finish="cancelled", cancelled_ns=cancelled_ns)
        case = turn.number % self.cases if self.cases else None
        right = None if case is None else self.right(case)
        finish = self.finish(self.asked)
        if finish == "refused":
            return Answered(token_ns=(), ended_ns=self.clock.pass_ms(duration_ms), phases_ms={}, finish=finish)
        tokens = (self.clock.pass_ms(duration_ms / 2), self.clock.pass_ms(duration_ms / 2))
        return Answered(
            token_ns=tokens,
            ended_ns=tokens[-1],
            phases_ms={"decode": duration_ms},
            finish=finish,
            case=case,
            right=right,
        )

    @contextmanager
    def open(self) -> Iterator[Requester]:
        self.opened += 1
        yield self


@dataclass
class QuietWatcher:
    """A machine on which nothing happens but what a test says."""

    broken: tuple[str, ...] = ()
    figures: Figures = field(default_factory=lambda: {"elapsed_s": 1.0})

    series: dict[str, list[Any]] | None = None

    def start(self) -> None: ...

    def stop(self) -> Watched:
        return Watched(figures=self.figures, broken=self.broken, series=self.series)
