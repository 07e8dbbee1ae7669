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
from itertools import count
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
                    for sample in _requests(spec, workload, requester, start):
                        samples.append(sample)
                        advance(1)
                        if _enough(plan, samples, start, share, last=start == starts - 1):
                            break


def _enough(plan: Planned, samples: list[Sample], start: int, share: int, *, last: bool) -> bool:
    """Whether this start of the workload has all it needs."""
    here = sum(1 for sample in samples if sample.start == start)
    if plan.statistics.plan == "fixed":
        if here < share:
            return False
        return not last or len(samples) >= plan.most_requests or _trials(plan, samples) >= plan.trials
    return here >= share or (len(samples) % _LOOK_EVERY == 0 and decided(plan, samples))


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


def _requests(spec: Spec, workload: Workload, requester: Requester, start: int) -> Iterator[Sample]:
    """Samples of one workload without end, after its warm-up."""
    for _ in range(spec.statistics.warmup_requests):
        requester.request(workload)
    begun_ns = time.perf_counter_ns()
    closed = workload.arrival.kind == "closed"
    offsets = None if closed else intended_offsets_ns(workload.arrival, spec.statistics.seed + start)
    pause_ns = round((workload.arrival.pause_ms or 0.0) * 1e6)
    intended_ns = begun_ns
    for place in count():
        if offsets is not None:
            intended_ns = begun_ns + next(offsets)
        wait_until(intended_ns)
        started_ns = time.perf_counter_ns()
        answered = requester.request(workload)
        yield Sample.of(
            answered, intended_ns=intended_ns, started_ns=started_ns, begun_ns=begun_ns, start=start, first=place == 0
        )
        if closed:
            intended_ns = time.perf_counter_ns() + pause_ns


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
