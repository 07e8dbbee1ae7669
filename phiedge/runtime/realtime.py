"""What a process can ask of its system so that it is disturbed less; each only if asked for, and each reported.

Nothing here is needed to keep a deadline, and nothing is done silently: the answer to every wish is "applied",
"refused" (the system said no, and why) or "unavailable" (it has no such thing). Threads that exist are treated;
those that an engine starts later inherit from the thread that starts them, so open the session first and then ask.

    with phiedge.Session.open("bundle") as session:
        session.generate(...)  # warm, at the shapes that will come
        for report in apply(RealtimePolicy(cpus=(2, 3), freeze_garbage=True)):
            print(report.wish, report.status, report.detail)
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

HIGHEST_FIFO = 49  # the kernel's own interrupt threads run at 50
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_THROTTLE = Path("/proc/sys/kernel")
_TASKS = Path("/proc/self/task")


@dataclass(frozen=True, slots=True, kw_only=True)
class RealtimePolicy:
    """What is wished for.

    - `cpus`: run on these processors only; best those that the system keeps others away from.
    - `fifo_priority`: SCHED_FIFO at this priority, above everything that is not real-time on the machine.
    - `lock_memory`: keep every page in memory, those to come as well. Weights that are mapped from files count.
    - `freeze_garbage`: collect once, and look at what is left no more.
    """

    cpus: tuple[int, ...] | None = None
    fifo_priority: int | None = None
    lock_memory: bool = False
    freeze_garbage: bool = False

    def __post_init__(self) -> None:
        if self.cpus is not None and (not self.cpus or min(self.cpus) < 0 or len(set(self.cpus)) < len(self.cpus)):
            raise UsageError(f"cpus must be numbers of processors, each once, not {self.cpus}")
        if self.fifo_priority is not None and not 1 <= self.fifo_priority <= HIGHEST_FIFO:
            raise UsageError(
                f"fifo_priority must be from 1 to {HIGHEST_FIFO}, not {self.fifo_priority}",
                remedy="above that, the kernel's own interrupt threads would wait",
            )


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

    def throttle_us(self) -> tuple[int, int] | None:
        """How long real-time threads may run, and in which period; None where nothing limits or tells it."""
        try:
            runtime, period = (
                int((_THROTTLE / name).read_text()) for name in ("sched_rt_runtime_us", "sched_rt_period_us")
            )
        except (OSError, ValueError):
            return None
        return (runtime, period) if 0 <= runtime < period else None


def apply(policy: RealtimePolicy, *, system: System | None = None) -> tuple[Report, ...]:
    """Ask for everything in the policy; one report for each wish, in the order of the fields."""
    asked, reports = system or System(), list[Report]()
    cpus, priority = policy.cpus, policy.fifo_priority
    if cpus is not None:
        reports.append(_asked("cpus", lambda: _pin(asked, cpus)))
    if priority is not None:
        reports.append(_asked("fifo_priority", lambda: _raise_priority(asked, priority)))
    if policy.lock_memory:
        reports.append(_asked("lock_memory", lambda: _lock(asked)))
    if policy.freeze_garbage:
        reports.append(_asked("freeze_garbage", lambda: f"{asked.freeze_garbage()} objects are not looked at any more"))
    return tuple(reports)


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


def _lock(system: System) -> str:
    system.lock_memory()
    return "all pages stay in memory"
