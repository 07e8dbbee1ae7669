"""Will it have to wait? For memory, for cores, or for the right to run first.

Each check gives findings, or None where the system does not tell what it looks at.
"""

import re

from phiedge.devices.doctor.finding import Finding
from phiedge.devices.doctor.speed import Findings
from phiedge.devices.probe.probing import Probe
from phiedge.devices.probe.surfaces import Surfaces

LIMITS_FILE, STATUS_FILE = "/proc/self/limits", "/proc/self/status"
RT_RUNTIME_FILE = "/proc/sys/kernel/sched_rt_runtime_us"
LEAST_AVAILABLE = 0.05  # below this share of all memory the kernel begins to take pages of files back, weights' too
MOST_PRESSURE_PERCENT = 1.0
MOST_LOAD = 0.5  # of the cores: with more, threads of others run where ours would
_MAY_SET_PRIORITY = 1 << 23  # CAP_SYS_NICE, capabilities(7)
_MAY_LOCK_MEMORY = 1 << 14  # CAP_IPC_LOCK
_LIMITS_CONF = "/etc/security/limits.d/95-phiedge.conf"


def swap(found: Probe, surfaces: Surfaces) -> Findings:
    """Whether memory can be swapped out, to a disk or into itself."""
    if surfaces.files.text("/proc/swaps") is None:
        return None
    findings = []
    for place in found.memory.swaps:
        used = f"{place.used_bytes / 2**20:,.0f} of {place.size_bytes / 2**20:,.0f} MiB used"
        zram = place.compressed
        findings.append(
            Finding(
                name="zram" if zram else "swap",
                when="now" if place.used_bytes else "risk",
                what=f"memory is {'compressed into' if zram else 'swapped to'} {place.name}, {used}",
                why="a page that was swapped out comes back while a token waits for it; unpacking takes a core as well"
                if zram
                else "a page that was swapped out comes back at the speed of the disk while a token waits for it",
                fix="sudo systemctl disable --now nvzramconfig"
                if zram and found.jetson
                else f"sudo swapoff {place.name}",
            )
        )
    return findings


def memory(found: Probe, surfaces: Surfaces) -> Findings:
    """Whether memory is short, or processes wait for it."""
    total, available, pressure = (
        found.memory.total_bytes,
        found.memory.available_bytes,
        found.memory.pressure_percent,
    )
    if pressure is None and (total is None or available is None):
        return None
    findings = []
    if total is not None and available is not None and available < LEAST_AVAILABLE * total:
        findings.append(
            Finding(
                name="memory",
                when="now",
                what=f"{available / 2**20:,.0f} of {total / 2**20:,.0f} MiB of memory are left",
                why="the kernel takes back pages of files to make room, and the weights are such pages",
                fix="ps -eo rss,pid,comm --sort=-rss | head, and end what is not needed",
            )
        )
    if pressure is not None and pressure >= MOST_PRESSURE_PERCENT:
        findings.append(
            Finding(
                name="memory pressure",
                when="now",
                what=f"in the last 10 seconds some process waited for memory {pressure:g} % of the time",
                why="who waits for memory does not compute, and it may be the one with the deadline",
                fix="ps -eo rss,pid,comm --sort=-rss | head, and end what is not needed",
            )
        )
    return findings


def load(found: Probe, surfaces: Surfaces) -> Findings:
    """Whether others use the cores."""
    match = re.match(r"(\d{1,6}\.\d{2}) ", surfaces.files.text("/proc/loadavg") or "", flags=re.ASCII)
    if match is None or found.cores.count is None:
        return None
    busy = float(match[1])
    if busy <= MOST_LOAD * found.cores.count:
        return ()
    return [
        Finding(
            name="load",
            when="now",
            what=f"in the last minute {busy:g} threads wanted to run, on {found.cores.count} cores",
            why="the thread that feeds the engine waits for a core whenever others have them all",
            fix="ps -eo pcpu,pid,comm --sort=-pcpu | head, and end what is not needed",
        )
    ]


def realtime(found: Probe, surfaces: Surfaces) -> Findings:
    """Whether this user may ask for a real-time priority and lock memory."""
    limits = surfaces.files.text(LIMITS_FILE)
    if limits is None:
        return None
    may = _capabilities(surfaces.files.text(STATUS_FILE))
    priority, locked = _soft_limit(limits, "Max realtime priority"), _soft_limit(limits, "Max locked memory")
    findings = []
    if priority == 0 and not may & _MAY_SET_PRIORITY:
        findings.append(
            Finding(
                name="real-time priority",
                when="risk",
                what="this user may not run anything at a real-time priority",
                why="without it any process on the machine can take the core away in the middle of a step",
                fix=f'echo "$USER - rtprio 95" | sudo tee -a {_LIMITS_CONF}, then log in again',
            )
        )
    total = found.memory.total_bytes
    if locked is not None and total is not None and locked < total // 2 and not may & _MAY_LOCK_MEMORY:
        findings.append(
            Finding(
                name="locked memory",
                when="risk",
                what=f"this user may hold {locked / 2**20:,.0f} MiB in memory, no more",
                why="pages of weights that are not held can be dropped, and are read again from the disk",
                fix=f'echo "$USER - memlock unlimited" | sudo tee -a {_LIMITS_CONF}, then log in again',
            )
        )
    return findings


def realtime_throttle(found: Probe, surfaces: Surfaces) -> Findings:
    """Whether the kernel stops threads of real-time priority for a part of every second."""
    runtime_us = surfaces.files.number(RT_RUNTIME_FILE)
    if runtime_us is None:
        return None
    if runtime_us < 0:
        return ()
    return [
        Finding(
            name="real-time throttle",
            when="risk",
            what=f"threads of real-time priority may run for {runtime_us / 1000:g} ms at a stretch, then others must",
            why="a thread that polls the GPU is stopped for the rest of the period, in which its token is late",
            fix="sudo sysctl -w kernel.sched_rt_runtime_us=-1",
        )
    ]


def _soft_limit(limits: str, name: str) -> int | None:
    """The number after a limit's name; None where it is unlimited or not there."""
    match = re.search(rf"^{name}\s+(\d{{1,18}})\s", limits, flags=re.ASCII | re.MULTILINE)
    return int(match[1]) if match else None


def _capabilities(status: str | None) -> int:
    match = re.search(r"^CapEff:\s+([0-9a-f]{16})$", status or "", flags=re.MULTILINE)
    return int(match[1], 16) if match else 0
