"""What of the machine is watched while it is measured, and whether the preconditions of a spec held.

Processor time, swapping and memory are what Linux tells at the start and at the end; clocks, heat, power and throttling
are what `sensors` told in between. Anything with these two methods can be given to a campaign.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from phiedge.acceptance.preconditions import Preconditions
from phiedge.acceptance.sensors import Sensed, Sensors
from phiedge.devices.host import process_memory, reset_peak_memory

_STAT = Path("/proc/stat")
_VMSTAT = Path("/proc/vmstat")
_MEMINFO = Path("/proc/meminfo")
_TICKS_HZ = os.sysconf("SC_CLK_TCK")
_LEAST_STEP_S = 0.5  # of the system's clock, and of sleep: below is how exactly both are read

Figures: TypeAlias = dict[str, float | None]

# Figure -> the precondition about it, and whether more (1) or less (-1) than that breaks it.
_LIMITS = (
    ("foreign_cpu_share", "foreign_cpu_share_max", 1),
    ("swap_in_pages", "swap_in_pages_max", 1),
    ("memory_available_bytes", "memory_available_bytes_min", -1),
    ("core_mhz", "core_mhz_min", -1),
    ("gpu_mhz", "gpu_mhz_min", -1),
    ("memory_mhz", "memory_mhz_min", -1),
    ("clock_shift", "clock_shift_max", 1),
    ("celsius_start", "celsius_start_max", 1),
    ("celsius", "celsius_max", 1),
    ("watts", "watts_max", 1),
    ("throttled_samples", "throttled_samples_max", 1),
    ("over_current_events", "over_current_events_max", 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a watcher saw: figures by name, None where the system does not tell, what broke a precondition, and what is
    worth a note. `series` are the sensors over time, as columns of equal length, `at_s` since the start first."""

    figures: Figures
    broken: tuple[str, ...]
    notes: tuple[str, ...] = ()
    power_mode: str | None = None
    series: dict[str, list[Any]] | None = None


class Watcher(Protocol):
    """Watches the machine from `start` to `stop`."""

    def start(self) -> None: ...

    def stop(self) -> Watched: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    at_s: float
    wall_s: float
    with_sleep_s: float
    busy_s: float | None
    own_s: float
    swapped_in_pages: int | None
    memory_available_bytes: int | None


class LinuxWatcher:
    """Processor time that others took, pages swapped in, memory that is free; and what `sensors` tell, if given.

    Own time is that of this process and of the children that it has reaped.
    """

    def __init__(self, preconditions: Preconditions, *, sensors: Sensors | None = None) -> None:
        self._wanted = preconditions
        self._sensors = sensors
        self._begun: _Reading | None = None

    def start(self) -> None:
        if self._sensors is not None:
            self._sensors.start()
        reset_peak_memory()
        self._begun = _read()

    def stop(self) -> Watched:
        assert self._begun is not None
        sensed = Sensed() if self._sensors is None else self._sensors.stop()
        begun, ended = self._begun, _read()
        figures = _figures(begun, ended, sensed)
        broken = [*sensed.broken, *_backwards(begun, ended), *self._unmet(figures, sensed)]
        return Watched(
            figures=figures,
            broken=tuple(broken),
            notes=(*sensed.notes, *_clock_notes(begun, ended)),
            power_mode=sensed.power_mode,
            series=sensed.series,
        )

    def _unmet(self, figures: Figures, sensed: Sensed) -> list[str]:
        """The preconditions that did not hold, each with both numbers."""
        said = []
        for name, key, sign in _LIMITS:
            limit, value = getattr(self._wanted, key), figures[name]
            if limit is None:
                continue
            if value is None:
                said.append(f"{name} is asked for, and this system does not tell it")
            elif sign * value > sign * limit:
                relation = "more" if sign > 0 else "less"
                said.append(f"{name} was {value:.4g}, {relation} than the {limit:.4g} of the spec")
        mode = self._wanted.power_mode
        if mode is not None and sensed.power_mode is None:
            said.append(f"the power mode {mode} is asked for, and this system does not tell its mode")
        elif mode is not None and mode != sensed.power_mode:
            said.append(f"the power mode was {sensed.power_mode}, not the {mode} of the spec")
        return said


def _figures(begun: _Reading, ended: _Reading, sensed: Sensed) -> Figures:
    elapsed_s = max(ended.at_s - begun.at_s, 1e-9)
    cores = os.cpu_count() or 1
    foreign: float | None = None
    if begun.busy_s is not None and ended.busy_s is not None:
        others_s = ended.busy_s - begun.busy_s - (ended.own_s - begun.own_s)
        foreign = max(0.0, others_s / (elapsed_s * cores))
    swapped: float | None = None
    if begun.swapped_in_pages is not None and ended.swapped_in_pages is not None:
        swapped = ended.swapped_in_pages - begun.swapped_in_pages
    free = [begun.memory_available_bytes, ended.memory_available_bytes, sensed.least_available_bytes]
    least = min((value for value in free if value is not None), default=None)
    at_start = begun.memory_available_bytes
    return {
        "elapsed_s": elapsed_s,
        "foreign_cpu_share": foreign,
        "swap_in_pages": swapped,
        "memory_available_bytes": least,
        "peak_rss_bytes": process_memory().peak_bytes or None,
        "system_bytes": None if least is None or at_start is None else max(0, at_start - least),
        **sensed.figures,
    }


def _backwards(begun: _Reading, ended: _Reading) -> list[str]:
    """Counters that fell: the machine is not one whose figures can be trusted."""
    pairs = (
        ("the processor time of the system", begun.busy_s, ended.busy_s),
        ("the counter of pages swapped in", begun.swapped_in_pages, ended.swapped_in_pages),
    )
    said = [
        f"{name} went backwards, from {before:g} to {after:g}"
        for name, before, after in pairs
        if before is not None and after is not None and after < before
    ]
    slept_s = (ended.with_sleep_s - begun.with_sleep_s) - (ended.at_s - begun.at_s)
    if slept_s > _LEAST_STEP_S:
        said.append(f"the machine slept for {slept_s:.1f} s while it was measured")
    return said


def _clock_notes(begun: _Reading, ended: _Reading) -> list[str]:
    step_s = (ended.wall_s - begun.wall_s) - (ended.at_s - begun.at_s)
    if abs(step_s) <= _LEAST_STEP_S:
        return []
    return [f"the system's clock was set by {step_s:+.1f} s during the run; latencies do not depend on it"]


def _read() -> _Reading:
    times = os.times()
    swapped = _number(_VMSTAT, "pswpin")
    free_kib = _number(_MEMINFO, "MemAvailable:")
    monotonic_s = time.monotonic()
    return _Reading(
        at_s=monotonic_s,
        wall_s=time.time(),
        with_sleep_s=time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else monotonic_s,
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
