"""Running a spec: requests at their intended starts, until the plan is full or all budgets have decided.

Nothing is judged here but when to stop. An interruption, or a device that fails, ends a campaign early and keeps what
there is, marked.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count, repeat
from typing import Literal

from phiedge.acceptance.arrivals import intended_offsets_ns, wait_until
from phiedge.acceptance.claim import strength
from phiedge.acceptance.claims_of_spec import Planned, cold_starts_of, counted, first_of, missed_of, plan_workload
from phiedge.acceptance.coload import Loads, loaded
from phiedge.acceptance.environment import Watched, Watcher
from phiedge.acceptance.requester import OpenRequester, Requester, Turn
from phiedge.acceptance.samples import Sample
from phiedge.acceptance.spec import Spec, Workload
from phiedge.errors import PhiEdgeError
from phiedge.progress import Progress, silent

_LOOK_EVERY = 10  # requests between two looks at a sequential test; looking costs time and is never wrong
_CANCEL_SEED = 1  # besides that of the spec, so that moments of cancelling do not follow those of arrivals
_LEAST_SLACK_NS = 3_000_000  # before the next request is due: more than a look at few requests takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What was measured. `ended` is "interrupted" by a person or "failed" by the device, which `failure` then names."""

    samples: dict[str, tuple[Sample, ...]]
    opened_ms: tuple[float, ...]
    cold_start_ms: tuple[float, ...]
    loads: Loads
    watched: Watched
    ended: Literal["complete", "interrupted", "failed"]
    failure: str | None


@dataclass(slots=True)
class _Record:
    plans: dict[str, Planned]
    samples: dict[str, list[Sample]]
    begun_ns: int = 0
    opened_ms: list[float] = field(default_factory=list)
    cold_start_ms: list[float] = field(default_factory=list)


def run_campaign(
    spec: Spec,
    opener: OpenRequester,
    watcher: Watcher,
    *,
    cases: Mapping[str, int] | None = None,
    cold_start: Callable[[], float] | None = None,
    progress: Progress = silent,
) -> Campaign:
    """Measure all workloads of `spec`. Errors before the first request come through; later ones are kept.

    `cases` are how many there are by workload; `cold_start` starts a new process and gives its milliseconds.
    """
    plans = {w.name: plan_workload(spec, w.name, cases=(cases or {}).get(w.name, 0)) for w in spec.workloads}
    record = _Record(plans=plans, samples={workload.name: [] for workload in spec.workloads})
    ended: Literal["complete", "interrupted", "failed"] = "complete"
    failure = None
    watcher.start()
    try:
        with loaded(spec.coload) as loads:
            try:
                record.begun_ns = time.perf_counter_ns()
                _run_starts(spec, opener, record, progress)
                _start_cold(spec, cold_start, record, progress)
            except KeyboardInterrupt:
                ended = "interrupted"
            except (PhiEdgeError, OSError) as error:
                if not any(record.samples.values()):
                    raise
                ended, failure = "failed", f"{type(error).__name__}: {error}"
    finally:
        watched = watcher.stop()
    return Campaign(
        samples={name: tuple(samples) for name, samples in record.samples.items()},
        opened_ms=tuple(record.opened_ms),
        cold_start_ms=tuple(record.cold_start_ms),
        loads=loads,
        watched=watched,
        ended=ended,
        failure=failure,
    )


def _run_starts(spec: Spec, opener: OpenRequester, record: _Record, progress: Progress) -> None:
    plans = record.plans
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
                    requests = _requests(spec, workload, requester, start, record)
                    for here, (sample, next_ns) in enumerate(requests, start=1):
                        samples.append(sample)
                        advance(1)
                        if _full(plan, samples, here, share, last=start == starts - 1) or looks.enough(
                            samples, next_ns
                        ):
                            break


def _start_cold(spec: Spec, cold_start: Callable[[], float] | None, record: _Record, progress: Progress) -> None:
    """As many new processes as the budget of cold starts needs, when nothing else runs."""
    count = cold_starts_of(spec)
    if not count:
        return
    assert cold_start is not None, "a budget of cold starts needs something to start"
    with progress.task("cold starts", count, "starts") as advance:
        for _ in range(count):
            record.cold_start_ms.append(cold_start())
            advance(1)


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
        if self.plan.statistics.plan == "fixed" or len(samples) < max(self.plan.cases, self.looked_at + _LOOK_EVERY):
            return False
        now_ns = time.perf_counter_ns()
        if next_ns is not None and next_ns - now_ns < 2 * self.took_ns + _LEAST_SLACK_NS:
            return False
        found = decided(self.plan, samples)
        self.looked_at, self.took_ns = len(samples), time.perf_counter_ns() - now_ns
        return found


def _trials(plan: Planned, samples: list[Sample]) -> int:
    """The fewest trials that any of the claims has got; requests that follow a miss may be none."""
    trials = []
    for budget, claim in zip(plan.budgets, plan.claims, strict=True):
        about = counted(budget, samples)
        trials.append(strength(claim, missed_of(budget, about), first_of(about)).trials)
    return min(trials, default=plan.trials)


def decided(plan: Planned, samples: list[Sample]) -> bool:
    """Whether every budget of a sequential plan has decided at its own error rate."""
    for budget, claim in zip(plan.budgets, plan.claims, strict=True):
        about = counted(budget, samples)
        seen = strength(claim, missed_of(budget, about), first_of(about))
        if min(seen.p_pass, seen.p_fail) > claim.alpha:
            return False
    return True


def _requests(
    spec: Spec, workload: Workload, requester: Requester, start: int, record: _Record
) -> Iterator[tuple[Sample, int | None]]:
    """Samples of one workload without end, after its warm-up, and when the next is due, None if it waits."""
    for number in range(-spec.statistics.warmup_requests, 0):
        requester.request(workload, Turn(number=number, intended_ns=time.perf_counter_ns()))
    before = len(record.samples[workload.name])
    cancelling = random.Random(f"{_CANCEL_SEED} {spec.statistics.seed} {start}")
    begun_ns = time.perf_counter_ns()
    closed = workload.arrival.kind == "closed"
    offsets = repeat(0) if closed else intended_offsets_ns(workload.arrival, spec.statistics.seed + start)
    pause_ns = round((workload.arrival.pause_ms or 0.0) * 1e6)
    intended_ns = begun_ns + next(offsets)
    for place in count():
        wait_until(intended_ns)
        cancel_after_ms = None if workload.cancel_after_ms is None else workload.cancel_after_ms * cancelling.random()
        turn = Turn(number=before + place, intended_ns=intended_ns, cancel_after_ms=cancel_after_ms)
        started_ns = time.perf_counter_ns()
        answered = requester.request(workload, turn)
        sample = Sample.of(
            answered,
            intended_ns=intended_ns,
            started_ns=started_ns,
            begun_ns=record.begun_ns,
            start=start,
            first=place == 0,
            deadline_ms=workload.deadline_ms,
        )
        if closed:
            yield sample, None
            intended_ns = time.perf_counter_ns() + pause_ns
        else:
            intended_ns = begun_ns + next(offsets)
            yield sample, intended_ns
