"""Budgets: what a bundle on a machine must keep, as values that check themselves."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from phiedge.acceptance.weakly_hard import WeaklyHard
from phiedge.errors import UsageError

Metric: TypeAlias = Literal["ttft_ms", "e2e_ms", "token_mean_ms", "token_max_ms", "answer_ms", "overrun_ms", "abort_ms"]
MemoryMetric: TypeAlias = Literal["peak_rss_bytes", "system_bytes", "gpu_bytes"]

EVERY_WORKLOAD = "*"


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
        check_positive(f"the limit of {self.metric}", self.limit_ms)
        _check_share(f"quantile {self.quantile:g} of {self.metric}", self.quantile)


@dataclass(frozen=True, slots=True, kw_only=True)
class JitterBudget:
    """The `metric` of `workload` spreads by at most `limit_ms` from its median to its `quantile`."""

    workload: str
    metric: Metric
    limit_ms: float
    quantile: float

    def __post_init__(self) -> None:
        check_positive(f"the jitter of {self.metric}", self.limit_ms)
        if not 0.5 < self.quantile < 1.0:
            raise UsageError(
                f"the jitter of {self.metric} cannot be to the quantile {self.quantile:g}",
                remedy="give one above 0.5 and below 1",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyBudget:
    """At least `at_least` of all questions like the workload's cases are answered rightly, and within `limit_ms`.

    The cases are taken for a sample of those questions; each counts once, however often it is asked. `limit_ms` counts
    from the intended start; None asks for no time beside the deadline of the workload.
    """

    workload: str
    at_least: float
    limit_ms: float | None = None

    def __post_init__(self) -> None:
        _check_share(f"an accuracy of {self.at_least:g}", self.at_least)
        if self.limit_ms is not None:
            check_positive("the limit of an accuracy", self.limit_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """The most that was seen of a figure is at most `limit_bytes`: no statistics, as a peak is no sample.

    "peak_rss_bytes" is what this process had resident, "system_bytes" by how much the memory that the system has
    available fell, "gpu_bytes" what the cards had in use, whoever used it.
    """

    metric: MemoryMetric
    limit_bytes: int

    def __post_init__(self) -> None:
        if self.limit_bytes < 1:
            raise UsageError(f"the limit of {self.metric} must be 1 or more, not {self.limit_bytes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStartBudget:
    """At least `quantile` of the starts of a new process, with the bundle's files dropped from the page cache, have
    their first token within `limit_ms`. They are a fixed plan of their own, with `allowed_misses`."""

    quantile: float
    limit_ms: float
    allowed_misses: int = 0

    def __post_init__(self) -> None:
        check_positive("the limit of a cold start", self.limit_ms)
        _check_share(f"quantile {self.quantile:g} of cold starts", self.quantile)
        if self.allowed_misses < 0:
            raise UsageError(f"allowed_misses must be 0 or more, not {self.allowed_misses}")


def check_positive(what: str, value: float) -> None:
    """Refuse what is no positive number."""
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{what} must be a positive number, not {value}")


def check_contradictions(workload: str, budgets: tuple[LatencyBudget, ...]) -> None:
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


def _check_share(what: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise UsageError(
            f"{what} cannot be shown by any number of samples",
            remedy="it lies between 0 and 1, both excluded: 0.99 says 99 of 100",
        )
