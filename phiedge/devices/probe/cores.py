"""The processor: its name, cores, caches and vector instructions, as /proc/cpuinfo and the kernel's files tell them."""

import re
from dataclasses import dataclass

from phiedge.devices.probe.surfaces import Surfaces
from phiedge.devices.processor import FLAG_LINES, instruction_sets

CACHES = "/sys/devices/system/cpu/cpu0/cache"
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """One cache that the first core sees: `L1 data`, `L2` ..."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """`count` is how many the system runs processes on; `architecture` as the flags show it."""

    name: str | None
    count: int | None
    architecture: str | None
    instruction_sets: tuple[str, ...]
    caches: tuple[Cache, ...]


def find_cores(surfaces: Surfaces) -> Cores:
    """The processor of the system."""
    text = surfaces.files.text("/proc/cpuinfo") or ""
    pairs = [line.partition(":") for line in text.splitlines()]
    keys = [key.strip() for key, _, _ in pairs]
    names = [value.strip() for key, _, value in pairs if key.strip() == "model name"]
    return Cores(
        name=names[0][:120] if names else None,
        count=keys.count("processor") or None,
        architecture=next((FLAG_LINES[key] for key in keys if key in FLAG_LINES), None),
        instruction_sets=instruction_sets(text),
        caches=_caches(surfaces),
    )


def _caches(surfaces: Surfaces) -> tuple[Cache, ...]:
    found = []
    for path in surfaces.files.names(CACHES, "index*"):
        level, kind = surfaces.files.number(f"{path}/level"), surfaces.files.text(f"{path}/type")
        size = re.fullmatch(r"(\d{1,7})([KMG])", surfaces.files.text(f"{path}/size") or "", flags=re.ASCII)
        if size is not None and level is not None and 1 <= level <= 9:
            name = f"L{level}" + ("" if kind not in ("Data", "Instruction") else f" {kind.lower()}")
            found.append(Cache(name=name, size_bytes=int(size[1]) * _UNITS[size[2]]))
    return tuple(found)
