"""What an acceptance test is: requests, budgets, statistics and preconditions, as values that check themselves.

`spec_reading` reads them from TOML. A spec that could never be decided, or says nothing, is refused here.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from phiedge.acceptance.claim import PlanKind
from phiedge.acceptance.weakly_hard import WeaklyHard
from phiedge.errors import UsageError, nearest

ArrivalKind: TypeAlias = Literal["periodic", "poisson", "closed", "trace"]
Metric: TypeAlias = Literal["ttft_ms", "e2e_ms", "token_mean_ms", "token_max_ms"]
Think: TypeAlias = Literal["auto", "on", "off"]
Multiplicity: TypeAlias = Literal["holm", "none"]

METRICS: tuple[Metric, ...] = get_args(Metric)
EVERY_WORKLOAD = "*"


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
                _check_positive(f"arrival {name}", getattr(self, name))
        if self.pause_ms is not None and not (math.isfinite(self.pause_ms) and self.pause_ms >= 0):
            raise UsageError(f"arrival pause_ms must be 0 or more, not {self.pause_ms}")
        if self.offsets_ms is not None:
            _check_trace(self.offsets_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One kind of request; `pictures` are files beside the spec."""

    name: str
    prompt: str
    arrival: Arrival
    pictures: tuple[str, ...] = ()
    think: Think = "auto"
    max_new_tokens: int = 64
    max_visual_tokens: int | None = None

    def __post_init__(self) -> None:
        if not self.name or self.name == EVERY_WORKLOAD:
            raise UsageError(f"a workload cannot be named {self.name!r}", remedy="give it a name of its own")
        if self.max_new_tokens < 1:
            raise UsageError(f"workload {self.name!r}: max_new_tokens must be 1 or more, not {self.max_new_tokens}")
        if self.max_visual_tokens is not None and self.max_visual_tokens < 1:
            raise UsageError(f"workload {self.name!r}: max_visual_tokens must be 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyBudget:
    """At least `quantile` of the requests of `workload` ("*": of each) have a `metric` of at most `limit_ms`.

    A request that ended without the metric (it failed, or wrote no token) misses. With `weakly_hard`, there also are
    never more misses than that.
    """

    workload: str
    metric: Metric
    limit_ms: float
    quantile: float
    weakly_hard: WeaklyHard | None = None

    def __post_init__(self) -> None:
        _check_positive(f"the limit of {self.metric}", self.limit_ms)
        if not 0.0 < self.quantile < 1.0:
            raise UsageError(
                f"quantile {self.quantile:g} of {self.metric} cannot be shown by any number of samples",
                remedy="a quantile lies between 0 and 1, both excluded: 0.99 says that 99 of 100 keep the limit",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class JitterBudget:
    """The `metric` of `workload` spreads by at most `limit_ms` from its median to its `quantile`."""

    workload: str
    metric: Metric
    limit_ms: float
    quantile: float

    def __post_init__(self) -> None:
        _check_positive(f"the jitter of {self.metric}", self.limit_ms)
        if not 0.5 < self.quantile < 1.0:
            raise UsageError(
                f"the jitter of {self.metric} cannot be to the quantile {self.quantile:g}",
                remedy="give one above 0.5 and below 1",
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
        _check_positive("drift_max_share", self.drift_max_share)

    @property
    def alpha(self) -> float:
        """The error rate of the verdict as a whole."""
        return 1.0 - self.confidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Preconditions:
    """What must hold of the machine while it is measured; None asks nothing. If it does not, nothing is proven."""

    foreign_cpu_share_max: float | None = None
    swap_in_pages_max: int | None = None
    memory_available_bytes_min: int | None = None

    def __post_init__(self) -> None:
        share = self.foreign_cpu_share_max
        if share is not None and not 0.0 <= share <= 1.0:
            raise UsageError(f"foreign_cpu_share_max must lie between 0 and 1, not {share:g}")
        for name in ("swap_in_pages_max", "memory_available_bytes_min"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UsageError(f"{name} must be 0 or more, not {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CoLoad:
    """What else works while it is measured: `cpu_threads` processes that compute without end."""

    cpu_threads: int = 0

    def __post_init__(self) -> None:
        if self.cpu_threads < 0:
            raise UsageError(f"cpu_threads must be 0 or more, not {self.cpu_threads}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A whole acceptance test."""

    workloads: tuple[Workload, ...]
    budgets: tuple[LatencyBudget, ...]
    jitters: tuple[JitterBudget, ...] = ()
    statistics: Statistics = field(default_factory=Statistics)
    preconditions: Preconditions = field(default_factory=Preconditions)
    coload: CoLoad = field(default_factory=CoLoad)

    def __post_init__(self) -> None:
        if not self.workloads:
            raise UsageError("the spec has no workload", remedy="add a [[workload]]; `phiedge accept --init` shows one")
        if not self.budgets:
            raise UsageError("the spec has no budget", remedy="add a [[budget]]; `phiedge accept --init` shows one")
        names = [workload.name for workload in self.workloads]
        for name, count in Counter(names).items():
            if count > 1:
                raise UsageError(f"{count} workloads are named {name!r}", remedy="give each a name of its own")
        judged: tuple[LatencyBudget | JitterBudget, ...] = (*self.budgets, *self.jitters)
        for budget in judged:
            if budget.workload != EVERY_WORKLOAD and budget.workload not in names:
                close = nearest(budget.workload, names, count=1)
                raise UsageError(
                    f"a budget is for the workload {budget.workload!r}, which the spec does not have",
                    remedy=f"did you mean {close[0]!r}?" if close else f'name one of {", ".join(names)}, or "*"',
                )
        if self.jitters and self.statistics.plan == "sequential":
            raise UsageError(
                "jitter cannot be judged by a sequential plan",
                remedy='use plan = "fixed", or give it a spec of its own',
            )
        for name in names:
            _check_contradictions(name, self.budgets_of(name))

    def budgets_of(self, workload: str) -> tuple[LatencyBudget, ...]:
        """The latency budgets of one workload."""
        return tuple(budget for budget in self.budgets if budget.workload in (workload, EVERY_WORKLOAD))

    def jitters_of(self, workload: str) -> tuple[JitterBudget, ...]:
        """The jitter budgets of one workload."""
        return tuple(budget for budget in self.jitters if budget.workload in (workload, EVERY_WORKLOAD))


def _check_contradictions(workload: str, budgets: tuple[LatencyBudget, ...]) -> None:
    """Refuse budgets of which one makes another impossible or void."""
    for one in budgets:
        for other in budgets:
            same = one.metric == other.metric and one is not other
            if same and one.quantile <= other.quantile and one.limit_ms >= other.limit_ms:
                raise UsageError(
                    f"budgets of {workload!r} contradict: {one.metric} {one.limit_ms:g} ms at the quantile "
                    f"{one.quantile:g} says nothing beside {other.limit_ms:g} ms at {other.quantile:g}",
                    remedy="a higher quantile must have a higher limit; leave the weaker budget out",
                )
            late_first = one.metric == "ttft_ms" and other.metric == "e2e_ms" and one.quantile <= other.quantile
            if late_first and one.limit_ms > other.limit_ms:
                raise UsageError(
                    f"budgets of {workload!r} contradict: the first token may come after {one.limit_ms:g} ms, the "
                    f"last one must after {other.limit_ms:g} ms",
                    remedy="ttft_ms must be at most e2e_ms",
                )


def _check_positive(what: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{what} must be a positive number, not {value}")


def _check_trace(offsets_ms: tuple[float, ...]) -> None:
    if len(offsets_ms) < 2 or offsets_ms[0] < 0 or offsets_ms[-1] <= 0:
        raise UsageError("a trace needs two offsets or more, from 0 on", remedy="as in offsets_ms = [0, 120, 900]")
    if list(offsets_ms) != sorted(offsets_ms) or not all(map(math.isfinite, offsets_ms)):
        raise UsageError("the offsets of a trace must rise", remedy="give them in the order of time")
