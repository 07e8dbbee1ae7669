"""The machine that phiedge stands on, and how this process fares on it, as Linux tells it.

Everything is read from /proc and /sys at the moment of the call; what a system does not tell is None, never guessed.
"""

import os
import platform
import resource
from dataclasses import dataclass
from pathlib import Path

from phiedge.devices.system_files import named_numbers

_PROC = Path("/proc")
_CPUS = Path("/sys/devices/system/cpu")
_RESET_PEAK = "5"  # proc(5): writing it to clear_refs resets the peak resident size


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What this machine is. `clock_mhz` is the mean over the cores at this moment; virtual machines do not tell it."""

    cpu: str
    cores: int
    memory_bytes: int
    last_level_cache_bytes: int | None
    clock_mhz: float | None
    governor: str | None
    load_average_1m: float
    kernel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """Resident memory of this process: its own pages, pages of files that the system could drop, and the most so far.

    `peak_bytes` counts from the last `reset_peak_memory`.
    """

    anonymous_bytes: int
    file_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """What came between: pages that had to be mapped (minor) or read from disk (major), and cores taken away."""

    minor_faults: int
    major_faults: int
    involuntary_switches: int

    def __add__(self, later: "Disturbance") -> "Disturbance":
        """What came between in two stretches of time together."""
        return Disturbance(
            minor_faults=self.minor_faults + later.minor_faults,
            major_faults=self.major_faults + later.major_faults,
            involuntary_switches=self.involuntary_switches + later.involuntary_switches,
        )

    def since(self, earlier: "Disturbance") -> "Disturbance":
        """What was added after `earlier`."""
        return Disturbance(
            minor_faults=self.minor_faults - earlier.minor_faults,
            major_faults=self.major_faults - earlier.major_faults,
            involuntary_switches=self.involuntary_switches - earlier.involuntary_switches,
        )


def host(*, proc: Path = _PROC, cpus: Path = _CPUS) -> Host:
    """The machine, now."""
    return Host(
        cpu=_cpu_name(proc),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        last_level_cache_bytes=last_level_cache_bytes(cpus=cpus),
        clock_mhz=_clock_mhz(cpus),
        governor=_text(cpus / "cpu0" / "cpufreq" / "scaling_governor"),
        load_average_1m=round(os.getloadavg()[0], 2),
        kernel=platform.release().partition("-")[0],
    )


def process_memory(*, proc: Path = _PROC) -> ProcessMemory:
    """This process, now."""
    sizes = named_numbers(_text(proc / "self" / "status"))
    return ProcessMemory(
        anonymous_bytes=sizes.get("RssAnon", 0) + sizes.get("RssShmem", 0),
        file_bytes=sizes.get("RssFile", 0),
        peak_bytes=sizes.get("VmHWM", 0),
    )


def reset_peak_memory(*, proc: Path = _PROC) -> bool:
    """Let the peak start again from what is resident now; False where the system does not allow it."""
    try:
        (proc / "self" / "clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def disturbance() -> Disturbance:
    """The counts of this process, all its threads together, from its start."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Disturbance(minor_faults=usage.ru_minflt, major_faults=usage.ru_majflt, involuntary_switches=usage.ru_nivcsw)


def available_memory_bytes(*, proc: Path = _PROC) -> int | None:
    """The memory that a new allocation can have without swapping."""
    return named_numbers(_text(proc / "meminfo")).get("MemAvailable")


def last_level_cache_bytes(*, cpus: Path = _CPUS) -> int | None:
    """The largest cache that the first core sees."""
    sizes = [_text(path) or "" for path in sorted((cpus / "cpu0" / "cache").glob("index*/size"))]
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    known = [int(size[:-1]) * units[size[-1]] for size in sizes if size[:-1].isdigit() and size[-1] in units]
    return max(known, default=None)


def _cpu_name(proc: Path) -> str:
    for line in (_text(proc / "cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _clock_mhz(cpus: Path) -> float | None:
    clocks = [_text(path) or "" for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
    known = [int(clock) / 1e3 for clock in clocks if clock.isdigit()]
    return round(sum(known) / len(known), 1) if known else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
