"""What a process can ask of its system so that it is disturbed less; each only if asked for, and each reported.

Nothing here is needed to keep a deadline, and nothing is done silently: the answer to every wish is "applied",
"refused" (the system said no, and why) or "unavailable" (it has no such thing). Threads that exist are treated;
those that an engine starts later inherit from the thread that starts them, so a session asks when its engines are open.

    wishes = RealtimePolicy(cpus=(2, 3), warm_up=((640, 480),), freeze_garbage=True)
    with phiedge.Session.open("bundle", realtime=wishes) as session:
        for report in session.realtime:
            print(report.wish, report.status, report.detail)

Engine threads do not spin while they wait, on ONNX Runtime and OpenVINO alike: that is no wish but how they are opened.
"""

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from phiedge.errors import UsageError

Status: TypeAlias = Literal["applied", "refused", "unavailable"]
Trial: TypeAlias = Callable[[tuple[int, int] | None, int], float]
"""Answers a question about a picture of a width and height, or about none, in so many tokens; returns milliseconds."""

HIGHEST_FIFO = 49  # the kernel's own interrupt threads run at 50
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_THROTTLE = Path("/proc/sys/kernel")
_TASKS = Path("/proc/self/task")
_WARM_TOKENS, _CHECKED_TOKENS = 4, 68


@dataclass(frozen=True, slots=True, kw_only=True)
class RealtimePolicy:
    """What is wished for.

    - `cpus`: run on these processors only; best those that the system keeps others away from.
    - `fifo_priority`: SCHED_FIFO at this priority, above everything that is not real-time on the machine.
    - `lock_memory`: keep every page in memory, those to come as well. Weights that are mapped from files count.
    - `warm_up`: answer once before anything is asked, without a picture and with one of each of these sizes (width,
      height): the first request of a shape makes room that later ones find.
    - `freeze_garbage`: collect once, and look at what is left no more.
    - `check_allocation`: answer again, and tell whether tokens still touch memory for the first time.
    """

    cpus: tuple[int, ...] | None = None
    fifo_priority: int | None = None
    lock_memory: bool = False
    warm_up: tuple[tuple[int, int], ...] | None = None
    freeze_garbage: bool = False
    check_allocation: bool = False

    def __post_init__(self) -> None:
        if self.cpus is not None and (not self.cpus or min(self.cpus) < 0 or len(set(self.cpus)) < len(self.cpus)):
            raise UsageError(f"cpus must be numbers of processors, each once, not {self.cpus}")
        if self.fifo_priority is not None and not 1 <= self.fifo_priority <= HIGHEST_FIFO:
            raise UsageError(
                f"fifo_priority must be from 1 to {HIGHEST_FIFO}, not {self.fifo_priority}",
                remedy="above that, the kernel's own interrupt threads would wait",
            )
        if self.warm_up is not None and any(len(size) != 2 or min(size) < 1 for size in self.warm_up):
            raise UsageError(f"warm_up must be sizes of pictures, width and height, not {self.warm_up}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of one wish."""

    wish: str
    status: Status
    detail: str


class System:
    """The calls into the system; tests put others in their place."""

    def threads(self) -> list[int]:
        """The threads of this process."""
        return [int(path.name) for path in _TASKS.iterdir()] if _TASKS.is_dir() else [0]

    def set_affinity(self, thread: int, cpus: Sequence[int]) -> None:
        """Raises `OSError`, and `AttributeError` where there is no such call."""
        os.sched_setaffinity(thread, cpus)

    def set_fifo(self, thread: int, priority: int) -> None:
        """As `set_affinity`."""
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))

    def lock_memory(self) -> None:
        """As `set_affinity`."""
        if not sys.platform.startswith("linux"):
            raise AttributeError("mlockall")
        library = ctypes.CDLL(None, use_errno=True)
        if library.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def freeze_garbage(self) -> int:
        """Returns how many objects are not looked at any more."""
        gc.collect()
        gc.freeze()
        return gc.get_freeze_count()

    def own_fifo(self) -> int | None:
        """The priority of this thread under SCHED_FIFO, None under anything else."""
        return os.sched_getparam(0).sched_priority if os.sched_getscheduler(0) == os.SCHED_FIFO else None

    def page_faults(self) -> int:
        """How often this process touched a page for the first time, or one that was not in memory."""
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_minflt + usage.ru_majflt

    def throttle_us(self) -> tuple[int, int] | None:
        """How long real-time threads may run, and in which period; None where nothing limits or tells it."""
        try:
            runtime, period = (
                int((_THROTTLE / name).read_text()) for name in ("sched_rt_runtime_us", "sched_rt_period_us")
            )
        except (OSError, ValueError):
            return None
        return (runtime, period) if 0 <= runtime < period else None


def apply(policy: RealtimePolicy, *, system: System | None = None, trial: Trial | None = None) -> tuple[Report, ...]:
    """Ask for everything in the policy; one report for each wish, in the order of the fields.

    `trial` answers a question about a picture of a size, or about none, in so many tokens; a session brings its own.
    """
    asked, reports = system or System(), list[Report]()
    cpus, priority = policy.cpus, policy.fifo_priority
    if cpus is not None:
        reports.append(_asked("cpus", lambda: _pin(asked, cpus)))
    if priority is not None:
        reports.append(_asked("fifo_priority", lambda: _raise_priority(asked, priority)))
    if policy.lock_memory:
        reports.append(_asked("lock_memory", lambda: _lock(asked)))
    sizes = policy.warm_up
    if sizes is not None:
        reports.append(_asked("warm_up", lambda: _warm(_tried(trial), sizes)))
    if policy.freeze_garbage:
        reports.append(_asked("freeze_garbage", lambda: f"{asked.freeze_garbage()} objects are not looked at any more"))
    if policy.check_allocation:
        reports.append(_asked("check_allocation", lambda: _check(asked, _tried(trial))))
    return tuple(reports)


def watch_over(system: System | None = None) -> None:
    """Put the thread that calls this above those that it watches, where they are real-time: it would never run else."""
    asked = system or System()
    try:
        priority = asked.own_fifo()
        if priority is not None:
            asked.set_fifo(0, min(HIGHEST_FIFO, priority + 1))
    except (OSError, AttributeError):
        return  # as without: a thread that watches does so as well as the system lets it


def _tried(trial: Trial | None) -> Trial:
    if trial is None:
        raise AttributeError("session to answer with: Session.open(bundle, realtime=...)")
    return trial


def _asked(wish: str, ask: Callable[[], str]) -> Report:
    try:
        return Report(wish=wish, status="applied", detail=ask())
    except OSError as error:
        told = (error.strerror or str(error)).lower()
        return Report(wish=wish, status="refused", detail=told + _REMEDIES.get(wish, ""))
    except AttributeError as error:
        return Report(wish=wish, status="unavailable", detail=f"this system has none ({error})")


_REMEDIES = {
    "fifo_priority": "; it takes the capability SYS_NICE, or a limit on rtprio that allows it",
    "lock_memory": "; it takes the capability IPC_LOCK, or a limit on memlock that is large enough",
}


def _pin(system: System, cpus: Sequence[int]) -> str:
    threads = system.threads()
    for thread in threads:
        system.set_affinity(thread, cpus)
    return f"{len(threads)} threads on processors {', '.join(map(str, cpus))}"


def _raise_priority(system: System, priority: int) -> str:
    threads = system.threads()
    for thread in threads:
        system.set_fifo(thread, priority)
    throttle = system.throttle_us()
    told = f"{len(threads)} threads at priority {priority}"
    if throttle is None:
        return f"{told}; nothing ends a thread that never waits"
    runtime, period = throttle
    return f"{told}; after {runtime / 1e3:g} of every {period / 1e3:g} ms of work the system stops them for the rest"


def _warm(trial: Trial, sizes: Sequence[tuple[int, int]]) -> str:
    """Every shape twice, which tells what the first one cost."""
    cold_ms, warm_ms = (sum(trial(size, _WARM_TOKENS) for size in (None, *sizes)) for _ in range(2))
    return f"{1 + len(sizes)} shapes took {cold_ms:.1f} ms the first time, {warm_ms:.1f} ms then"


def _check(system: System, trial: Trial) -> str:
    """Requests allocate before their tokens; so a short answer is compared with a long one."""
    faults = []
    for tokens in (_CHECKED_TOKENS, _WARM_TOKENS, _CHECKED_TOKENS):
        before = system.page_faults()
        trial(None, tokens)
        faults.append(system.page_faults() - before)
    more = max(0, faults[2] - faults[1])
    if more:
        raise OSError(0, f"{more} pages were touched for the first time in {_CHECKED_TOKENS - _WARM_TOKENS} tokens")
    return f"no page was touched for the first time in {_CHECKED_TOKENS - _WARM_TOKENS} tokens"


def _lock(system: System) -> str:
    system.lock_memory()
    return "all pages stay in memory"
