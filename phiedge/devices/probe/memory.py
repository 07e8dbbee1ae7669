"""The memory of the system: how much, how much is left, where it swaps to, and whether anybody waits for it."""

import re
from dataclasses import dataclass

from phiedge.devices.probe.surfaces import Surfaces
from phiedge.devices.system_files import named_numbers, whole_number

SWAPPINESS_FILE = "/proc/sys/vm/swappiness"
_MOST_BYTES = 1 << 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """One place that memory is swapped to; `compressed` if it is memory itself (zram)."""

    name: str
    size_bytes: int
    used_bytes: int
    compressed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """`pressure_percent`: of the last 10 seconds, in how many some process waited for memory."""

    total_bytes: int | None
    available_bytes: int | None
    swaps: tuple[Swap, ...]
    swappiness: int | None
    pressure_percent: float | None


def find_memory(surfaces: Surfaces) -> Memory:
    """The memory of the system, now."""
    sizes = named_numbers(surfaces.files.text("/proc/meminfo"))
    total, available = sizes.get("MemTotal"), sizes.get("MemAvailable")
    total = total if total and total < _MOST_BYTES else None
    known = available is not None and total is not None and available <= total
    swappiness = surfaces.files.number(SWAPPINESS_FILE)
    return Memory(
        total_bytes=total,
        available_bytes=available if known else None,
        swaps=_swaps(surfaces.files.text("/proc/swaps") or ""),
        swappiness=swappiness if swappiness is not None and 0 <= swappiness <= 200 else None,
        pressure_percent=_pressure(surfaces.files.text("/proc/pressure/memory") or ""),
    )


def _swaps(text: str) -> tuple[Swap, ...]:
    """Lines of name, kind, size, used and priority; the sizes are in KiB."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        size, used = (whole_number(words[2]), whole_number(words[3])) if len(words) == 5 else (None, None)
        if size is not None and used is not None and 0 <= used <= size:
            compressed = "zram" in words[0]
            found.append(Swap(name=words[0], size_bytes=size * 1024, used_bytes=used * 1024, compressed=compressed))
    return tuple(found)


def _pressure(text: str) -> float | None:
    match = re.search(r"^some avg10=(\d{1,3}\.\d{2}) ", text, flags=re.ASCII | re.MULTILINE)
    value = float(match[1]) if match else None
    return value if value is not None and value <= 100 else None
