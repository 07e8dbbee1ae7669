"""What of the machine is watched while it is measured, and whether the preconditions of a spec held.

This knows what Linux tells without privileges. Clocks, temperatures and throttling are another watcher's: anything with
these two methods can be given to a campaign.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from phiedge.acceptance.spec import Preconditions

_STAT = Path("/proc/stat")
_VMSTAT = Path("/proc/vmstat")
_MEMINFO = Path("/proc/meminfo")
_TICKS_HZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a watcher saw: figures by name, None where the system does not tell, and what broke a precondition."""

    figures: dict[str, float | None]
    broken: tuple[str, ...]


class Watcher(Protocol):
    """Watches the machine from `start` to `stop`."""

    def start(self) -> None: ...

    def stop(self) -> Watched: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    at_s: float
    busy_s: float | None
    own_s: float
    swapped_in_pages: int | None
    memory_available_bytes: int | None


class LinuxWatcher:
    """Processor time that others took, pages swapped in, memory that is free. Own time is that of this process and of
    the children that it has reaped."""

    def __init__(self, preconditions: Preconditions, *, coload_threads: int = 0) -> None:
        self._wanted = preconditions
        self._coload_threads = coload_threads
        self._begun: _Reading | None = None

    def start(self) -> None:
        self._begun = _read()

    def stop(self) -> Watched:
        assert self._begun is not None
        figures = self._figures(self._begun, _read())
        wanted = self._wanted
        limits = (
            ("foreign_cpu_share", wanted.foreign_cpu_share_max, 1),
            ("swap_in_pages", wanted.swap_in_pages_max, 1),
            ("memory_available_bytes", wanted.memory_available_bytes_min, -1),
        )
        broken = []
        for name, limit, sign in limits:
            value = figures[name]
            if limit is None:
                continue
            if value is None:
                broken.append(f"{name} is asked for, and this system does not tell it")
            elif sign * value > sign * limit:
                relation = "more" if sign > 0 else "less"
                broken.append(f"{name} was {value:.4g}, {relation} than the {limit:.4g} of the spec")
        return Watched(figures=figures, broken=tuple(broken))

    def _figures(self, begun: _Reading, ended: _Reading) -> dict[str, float | None]:
        elapsed_s = max(ended.at_s - begun.at_s, 1e-9)
        cores = os.cpu_count() or 1
        foreign: float | None = None
        if begun.busy_s is not None and ended.busy_s is not None:
            others_s = ended.busy_s - begun.busy_s - (ended.own_s - begun.own_s) - self._coload_threads * elapsed_s
            foreign = max(0.0, others_s / (elapsed_s * cores))
        swapped: float | None = None
        if begun.swapped_in_pages is not None and ended.swapped_in_pages is not None:
            swapped = ended.swapped_in_pages - begun.swapped_in_pages
        free = [value for value in (begun.memory_available_bytes, ended.memory_available_bytes) if value is not None]
        return {
            "elapsed_s": elapsed_s,
            "foreign_cpu_share": foreign,
            "swap_in_pages": swapped,
            "memory_available_bytes": min(free) if free else None,
        }


def _read() -> _Reading:
    times = os.times()
    swapped = _number(_VMSTAT, "pswpin")
    free_kib = _number(_MEMINFO, "MemAvailable:")
    return _Reading(
        at_s=time.monotonic(),
        busy_s=_busy_s(),
        own_s=times.user + times.system + times.children_user + times.children_system,
        swapped_in_pages=swapped,
        memory_available_bytes=None if free_kib is None else 1024 * free_kib,
    )


def _busy_s() -> float | None:
    """Seconds of all cores that were neither idle nor waiting nor stolen, since the start of the system (proc(5))."""
    try:
        words = _STAT.read_text().split("\n", 1)[0].split()
        user, nice, system, _, _, interrupts, soft_interrupts = map(int, words[1:8])
    except (OSError, ValueError):
        return None
    return (user + nice + system + interrupts + soft_interrupts) / _TICKS_HZ


def _number(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith(name)), None)
    except (OSError, ValueError, IndexError):
        return None
