"""Running a spec: requests at their intended starts, until the plan is full or all budgets have decided.

Nothing is judged here but when to stop. An interruption, or a device that fails, ends a campaign early and keeps what
there is, marked.
"""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count, repeat
from typing import Literal

import numpy as np

from phiedge.acceptance.arrivals import intended_offsets_ns, wait_until
from phiedge.acceptance.claim import strength
from phiedge.acceptance.claims_of_spec import Planned, missed_of, plan_workload
from phiedge.acceptance.environment import Watched, Watcher
from phiedge.acceptance.requester import OpenRequester, Requester
from phiedge.acceptance.samples import Sample
from phiedge.acceptance.spec import Spec, Workload
from phiedge.errors import PhiEdgeError
from phiedge.progress import Progress, silent

_LOOK_EVERY = 10  # requests between two looks at a sequential test; looking costs time and is never wrong
_LEAST_SLACK_NS = 3_000_000  # before the next request is due: more than a look at few requests takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What was measured. `ended` is "interrupted" by a person or "failed" by the device, which `failure` then names."""

    samples: dict[str, tuple[Sample, ...]]
    opened_ms: tuple[float, ...]
    watched: Watched
    ended: Literal["complete", "interrupted", "failed"]
    failure: str | None


@dataclass(slots=True)
class _Record:
    samples: dict[str, list[Sample]]
    opened_ms: list[float] = field(default_factory=list)


def run_campaign(spec: Spec, opener: OpenRequester, watcher: Watcher, *, progress: Progress = silent) -> Campaign:
    """Measure all workloads of `spec`. Errors before the first request come through; later ones are kept."""
    record = _Record(samples={workload.name: [] for workload in spec.workloads})
    ended: Literal["complete", "interrupted", "failed"] = "complete"
    failure = None
    with _coload(spec.coload.cpu_threads):
        watcher.start()
        try:
            _run_starts(spec, opener, record, progress)
        except KeyboardInterrupt:
            ended = "interrupted"
        except (PhiEdgeError, OSError) as error:
            if not any(record.samples.values()):
                raise
            ended, failure = "failed", f"{type(error).__name__}: {error}"
        watched = watcher.stop()
    return Campaign(
        samples={name: tuple(samples) for name, samples in record.samples.items()},
        opened_ms=tuple(record.opened_ms),
        watched=watched,
        ended=ended,
        failure=failure,
    )


def _run_starts(spec: Spec, opener: OpenRequester, record: _Record, progress: Progress) -> None:
    plans = {workload.name: plan_workload(spec, workload.name) for workload in spec.workloads}
    starts, order = spec.statistics.restarts + 1, random.Random(spec.statistics.seed)
    with ExitStack() as stack:
        advance = stack.enter_context(
            progress.task("requests", sum(plan.requests for plan in plans.values()), "requests")
        )
        for start in range(starts):
            begun_ns = time.perf_counter_ns()
            with opener() as requester:
                record.opened_ms.append((time.perf_counter_ns() - begun_ns) / 1e6)
                workloads = list(spec.workloads)
                order.shuffle(workloads)
                for workload in workloads:
                    plan, samples = plans[workload.name], record.samples[workload.name]
                    share = -(-plan.requests * (start + 1) // starts) - -(-plan.requests * start // starts)
                    looks = _Looks(plan)
                    for here, (sample, next_ns) in enumerate(_requests(spec, workload, requester, start), start=1):
                        samples.append(sample)
                        advance(1)
                        if _full(plan, samples, here, share, last=start == starts - 1) or looks.enough(
                            samples, next_ns
                        ):
                            break


def _full(plan: Planned, samples: list[Sample], here: int, share: int, *, last: bool) -> bool:
    """Whether this start of the workload, with `here` requests, has had its share of them."""
    if here < share or plan.statistics.plan == "sequential":
        return here >= share
    return not last or len(samples) >= plan.most_requests or _trials(plan, samples) >= plan.trials


@dataclass(slots=True)
class _Looks:
    """Looks at a sequential test now and then, but never when the next request is due: that would make it late."""

    plan: Planned
    looked_at: int = 0
    took_ns: int = 0

    def enough(self, samples: list[Sample], next_ns: int | None) -> bool:
        """Whether every budget has decided; False where this is no moment to look. `next_ns` None waits for us."""
        if self.plan.statistics.plan == "fixed" or len(samples) < self.looked_at + _LOOK_EVERY:
            return False
        now_ns = time.perf_counter_ns()
        if next_ns is not None and next_ns - now_ns < 2 * self.took_ns + _LEAST_SLACK_NS:
            return False
        found = decided(self.plan, samples)
        self.looked_at, self.took_ns = len(samples), time.perf_counter_ns() - now_ns
        return found


def _trials(plan: Planned, samples: list[Sample]) -> int:
    """The fewest trials that any of the claims has got; requests that follow a miss may be none."""
    first = np.array([sample.first for sample in samples])
    return min(
        strength(claim, missed_of(budget, samples), first).trials
        for budget, claim in zip(plan.budgets, plan.claims, strict=True)
    )


def decided(plan: Planned, samples: list[Sample]) -> bool:
    """Whether every budget of a sequential plan has decided at its own error rate."""
    first = np.array([sample.first for sample in samples])
    for budget, claim in zip(plan.budgets, plan.claims, strict=True):
        seen = strength(claim, missed_of(budget, samples), first)
        if min(seen.p_pass, seen.p_fail) > claim.alpha:
            return False
    return True


def _requests(spec: Spec, workload: Workload, requester: Requester, start: int) -> Iterator[tuple[Sample, int | None]]:
    """Samples of one workload without end, after its warm-up, and when the next is due, None if it waits."""
    for _ in range(spec.statistics.warmup_requests):
        requester.request(workload)
    begun_ns = time.perf_counter_ns()
    closed = workload.arrival.kind == "closed"
    offsets = repeat(0) if closed else intended_offsets_ns(workload.arrival, spec.statistics.seed + start)
    pause_ns = round((workload.arrival.pause_ms or 0.0) * 1e6)
    intended_ns = begun_ns + next(offsets)
    for place in count():
        wait_until(intended_ns)
        started_ns = time.perf_counter_ns()
        answered = requester.request(workload)
        sample = Sample.of(
            answered, intended_ns=intended_ns, started_ns=started_ns, begun_ns=begun_ns, start=start, first=place == 0
        )
        if closed:
            yield sample, None
            intended_ns = time.perf_counter_ns() + pause_ns
        else:
            intended_ns = begun_ns + next(offsets)
            yield sample, intended_ns


@contextmanager
def _coload(threads: int) -> Iterator[None]:
    """Processes that compute without end, gone when it is left."""
    processes = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(threads)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
