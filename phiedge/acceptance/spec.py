"""What an acceptance test is: requests, budgets, statistics and preconditions, as values that check themselves.

`spec_reading` reads them from TOML. A spec that could never be decided, or says nothing, is refused here.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from phiedge.acceptance.budgets import (
    EVERY_WORKLOAD,
    AccuracyBudget,
    ColdStartBudget,
    JitterBudget,
    LatencyBudget,
    MemoryBudget,
    check_contradictions,
    check_positive,
)
from phiedge.acceptance.claim import PlanKind
from phiedge.acceptance.preconditions import CoLoad, Preconditions
from phiedge.errors import UsageError, nearest

ArrivalKind: TypeAlias = Literal["periodic", "poisson", "closed", "trace"]
Think: TypeAlias = Literal["auto", "on", "off"]
OnInfeasible: TypeAlias = Literal["refuse", "degrade"]
Multiplicity: TypeAlias = Literal["holm", "none"]

FORM_KEYS = ("choice", "pattern", "schema", "box", "point")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """When requests are meant to start.

    "periodic" every `period_ms`, "poisson" at `rate_hz` on average, "trace" `offsets_ms` after the start and round
    again, whether the one before has ended or not. "closed" starts `pause_ms` after the one before has ended, as a
    person at a kiosk does; it never sees a queue.
    """

    kind: ArrivalKind
    period_ms: float | None = None
    rate_hz: float | None = None
    pause_ms: float | None = None
    offsets_ms: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        own = {"periodic": "period_ms", "poisson": "rate_hz", "closed": "pause_ms", "trace": "offsets_ms"}[self.kind]
        for name in ("period_ms", "rate_hz", "pause_ms", "offsets_ms"):
            if (getattr(self, name) is None) == (name == own):
                raise UsageError(
                    f"arrival {self.kind!r} " + (f"needs {own}" if name == own else f"takes {own}, not {name}"),
                    remedy=f'as in arrival = {{ kind = "{self.kind}", {own} = ... }}',
                )
        for name in ("period_ms", "rate_hz"):
            if getattr(self, name) is not None:
                check_positive(f"arrival {name}", getattr(self, name))
        if self.pause_ms is not None and not (math.isfinite(self.pause_ms) and self.pause_ms >= 0):
            raise UsageError(f"arrival pause_ms must be 0 or more, not {self.pause_ms}")
        if self.offsets_ms is not None:
            _check_trace(self.offsets_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One kind of request: a `prompt` about `pictures`, files beside the spec, or `cases` with the answers that are
    expected (a file of JSON lines beside the spec, or "reference:N" for N questions of each task of the reference
    model).

    One of `choice`, `pattern`, `schema` (a file beside the spec), `box` and `point` is the form of its answers, as in
    `phiedge.runtime.forms`; only what parses is then an answer.
    `deadline_ms` is a budget for the session, from the intended start; `answer_tokens` and `on_infeasible` go with it.
    `cancel_after_ms` cancels every request, at a moment up to that after its start.
    """

    name: str
    arrival: Arrival
    prompt: str = ""
    pictures: tuple[str, ...] = ()
    cases: str | None = None
    think: Think = "auto"
    max_new_tokens: int = 64
    max_visual_tokens: int | None = None
    choice: tuple[str, ...] | None = None
    pattern: str | None = None
    schema: str | None = None
    box: bool = False
    point: bool = False
    deadline_ms: float | None = None
    answer_tokens: int | None = None
    on_infeasible: OnInfeasible = "refuse"
    cancel_after_ms: float | None = None

    def __post_init__(self) -> None:
        if not self.name or self.name == EVERY_WORKLOAD:
            raise UsageError(f"a workload cannot be named {self.name!r}", remedy="give it a name of its own")
        if (self.cases is None) == (not self.prompt):
            raise UsageError(
                f"workload {self.name!r} needs a prompt or cases, and not both", remedy="leave out one of them"
            )
        if self.cases is not None and self.pictures:
            raise UsageError(f"workload {self.name!r}: pictures stand with each of its cases", remedy="leave them out")
        for what in ("deadline_ms", "cancel_after_ms"):
            if getattr(self, what) is not None:
                check_positive(f"workload {self.name!r}: {what}", getattr(self, what))
        self._check_deadline()
        self._check_form()
        if self.max_new_tokens < 1:
            raise UsageError(f"workload {self.name!r}: max_new_tokens must be 1 or more, not {self.max_new_tokens}")
        if self.max_visual_tokens is not None and self.max_visual_tokens < 1:
            raise UsageError(f"workload {self.name!r}: max_visual_tokens must be 1 or more")

    def _check_form(self) -> None:
        given = [key for key in FORM_KEYS if getattr(self, key) not in (None, False)]
        if len(given) > 1:
            raise UsageError(
                f"workload {self.name!r}: {' and '.join(given)} are two forms of an answer", remedy="give one of them"
            )

    def _check_deadline(self) -> None:
        if self.answer_tokens is not None and self.answer_tokens < 1:
            raise UsageError(f"workload {self.name!r}: answer_tokens must be 1 or more, not {self.answer_tokens}")
        if self.deadline_ms is None and (self.answer_tokens is not None or self.on_infeasible != "refuse"):
            raise UsageError(
                f"workload {self.name!r}: answer_tokens and on_infeasible belong to a deadline",
                remedy="give deadline_ms, or leave them out",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """How sure a verdict has to be, and what it may assume.

    A "fixed" plan takes as many requests as `allowed_misses` need; a "sequential" one stops as soon as all is decided,
    at the latest after `max_requests`. `clustering` is the highest P(miss | previous miss) that is allowed for.
    """

    confidence: float = 0.95
    plan: PlanKind = "fixed"
    allowed_misses: int = 0
    max_requests: int = 10_000
    clustering: float = 0.0
    block_requests: int = 1
    multiplicity: Multiplicity = "holm"
    warmup_requests: int = 5
    restarts: int = 0
    drift_max_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1.0:
            raise UsageError(
                f"confidence {self.confidence:g} is no confidence that can be had",
                remedy="a confidence lies between 0.5 and 1: 0.95 is wrong once in twenty times",
            )
        if not 0.0 <= self.clustering < 1.0:
            raise UsageError(f"clustering must be 0 or more and less than 1, not {self.clustering:g}")
        for name in ("max_requests", "block_requests"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"{name} must be 1 or more, not {getattr(self, name)}", remedy="nothing is decided by no sample"
                )
        for name in ("allowed_misses", "warmup_requests", "restarts", "seed"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must be 0 or more, not {getattr(self, name)}")
        check_positive("drift_max_share", self.drift_max_share)

    @property
    def alpha(self) -> float:
        """The error rate of the verdict as a whole."""
        return 1.0 - self.confidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A whole acceptance test."""

    workloads: tuple[Workload, ...]
    budgets: tuple[LatencyBudget, ...] = ()
    jitters: tuple[JitterBudget, ...] = ()
    accuracies: tuple[AccuracyBudget, ...] = ()
    memory: tuple[MemoryBudget, ...] = ()
    cold_start: ColdStartBudget | None = None
    statistics: Statistics = field(default_factory=Statistics)
    preconditions: Preconditions = field(default_factory=Preconditions)
    coload: CoLoad = field(default_factory=CoLoad)

    def __post_init__(self) -> None:
        if not self.workloads:
            raise UsageError("the spec has no workload", remedy="add a [[workload]]; `phiedge accept --init` shows one")
        if not (self.budgets or self.accuracies):
            raise UsageError("the spec has no budget", remedy="add a [[budget]]; `phiedge accept --init` shows one")
        for name, count in Counter(workload.name for workload in self.workloads).items():
            if count > 1:
                raise UsageError(f"{count} workloads are named {name!r}", remedy="give each a name of its own")
        for named in [
            *(budget.workload for budget in self.budgets),
            *(budget.workload for budget in self.jitters),
            *(budget.workload for budget in self.accuracies),
        ]:
            self._check_workload(named)
        if self.jitters and self.statistics.plan == "sequential":
            raise UsageError(
                "jitter cannot be judged by a sequential plan",
                remedy='use plan = "fixed", or give it a spec of its own',
            )
        for metric, count in Counter(budget.metric for budget in self.memory).items():
            if count > 1:
                raise UsageError(f"{count} memory budgets are for {metric}", remedy="leave the weaker ones out")
        for workload in self.workloads:
            check_contradictions(workload.name, self.budgets_of(workload.name))
            self._check_metrics(workload)

    def budgets_of(self, workload: str) -> tuple[LatencyBudget, ...]:
        """The latency budgets of one workload."""
        return tuple(budget for budget in self.budgets if budget.workload in (workload, EVERY_WORKLOAD))

    def jitters_of(self, workload: str) -> tuple[JitterBudget, ...]:
        """The jitter budgets of one workload."""
        return tuple(budget for budget in self.jitters if budget.workload in (workload, EVERY_WORKLOAD))

    def accuracies_of(self, workload: str) -> tuple[AccuracyBudget, ...]:
        """The accuracy budgets of one workload."""
        return tuple(budget for budget in self.accuracies if budget.workload in (workload, EVERY_WORKLOAD))

    @property
    def judged(self) -> int:
        """How many budgets may err: all but those of memory, workload by workload."""
        of_workloads = sum(
            len(self.budgets_of(w.name)) + len(self.jitters_of(w.name)) + len(self.accuracies_of(w.name))
            for w in self.workloads
        )
        return of_workloads + (self.cold_start is not None)

    def _check_workload(self, name: str) -> None:
        names = [workload.name for workload in self.workloads]
        if name != EVERY_WORKLOAD and name not in names:
            close = nearest(name, names, count=1)
            raise UsageError(
                f"a budget is for the workload {name!r}, which the spec does not have",
                remedy=f"did you mean {close[0]!r}?" if close else f'name one of {", ".join(names)}, or "*"',
            )

    def _check_metrics(self, workload: Workload) -> None:
        """Refuse budgets of what the requests of a workload never come to."""
        needs = {"overrun_ms": "deadline_ms", "abort_ms": "cancel_after_ms"}
        metrics = [budget.metric for budget in self.budgets_of(workload.name)]
        metrics += [budget.metric for budget in self.jitters_of(workload.name)]
        for metric in metrics:
            key = needs.get(metric)
            if key is not None and getattr(workload, key) is None:
                raise UsageError(
                    f"workload {workload.name!r} has a budget of {metric} and no {key}",
                    remedy=f"give the workload {key}, as in {key} = 500",
                )
            if workload.cancel_after_ms is not None and metric in ("e2e_ms", "answer_ms"):
                raise UsageError(
                    f"workload {workload.name!r} is cancelled, so that {metric} says nothing",
                    remedy="give abort_ms a workload of its own",
                )
        if self.accuracies_of(workload.name) and workload.cases is None:
            raise UsageError(
                f"workload {workload.name!r} has a budget of accuracy and no cases",
                remedy='give the workload cases = "questions.jsonl", or name another workload',
            )


def _check_trace(offsets_ms: tuple[float, ...]) -> None:
    if len(offsets_ms) < 2 or offsets_ms[0] < 0 or offsets_ms[-1] <= 0:
        raise UsageError("a trace needs two offsets or more, from 0 on", remedy="as in offsets_ms = [0, 120, 900]")
    if list(offsets_ms) != sorted(offsets_ms) or not all(map(math.isfinite, offsets_ms)):
        raise UsageError("the offsets of a trace must rise", remedy="give them in the order of time")
