"""How much more memory this process may take, and who says so.

What is mapped and what is resident are limited by different parties: `ulimit -v` counts every mapped byte, also those
of files; a control group and the machine itself count what is resident. Work that knows what it needs asks before it
begins (`require_memory`), rather than to be killed in its middle.
"""

import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from phiedge.devices.host import available_memory_bytes
from phiedge.devices.system_files import named_numbers
from phiedge.errors import DeviceError

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_UNLIMITED_BYTES = 1 << 60  # what a control group of the first version says where there is no limit is above this


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """`bytes` more may be taken; `by` says who limits it, as a person knows it."""

    bytes: int
    by: str


def available_memory(*, proc: Path = _PROC, cgroups: Path = _CGROUPS) -> MemoryLimit | None:
    """The least of what may still become resident; None where the system does not tell."""
    return min(_resident_limits(proc, cgroups), key=lambda limit: limit.bytes, default=None)


def available_addresses(*, proc: Path = _PROC) -> MemoryLimit | None:
    """The least of what may still be mapped; None where there is no limit."""
    return min(_address_limits(proc), key=lambda limit: limit.bytes, default=None)


def require_memory(
    what: str,
    *,
    resident_bytes: int,
    mapped_bytes: int,
    remedy: str,
    proc: Path = _PROC,
    cgroups: Path = _CGROUPS,
) -> None:
    """Refuse `what` where this process may not take so much more memory.

    `mapped_bytes` is all of its address space, mapped files included; `resident_bytes` what must be in memory at the
    same time. Raises `DeviceError` with what is needed, what is left, and who limits it.
    """
    for needed_bytes, limit in (
        (mapped_bytes, available_addresses(proc=proc)),
        (resident_bytes, available_memory(proc=proc, cgroups=cgroups)),
    ):
        if limit is not None and needed_bytes > limit.bytes:
            raise DeviceError(
                f"{what} needs {_megabytes(needed_bytes)} of memory, {limit.by} leaves {_megabytes(limit.bytes)}",
                remedy=remedy,
            )


def _resident_limits(proc: Path, cgroups: Path) -> Iterator[MemoryLimit]:
    available_bytes = available_memory_bytes(proc=proc)
    if available_bytes is not None:
        yield MemoryLimit(bytes=available_bytes, by="the machine")
    for directory in _control_groups(proc, cgroups):
        limit_bytes = _group_limit(directory)
        if limit_bytes is not None:
            yield MemoryLimit(bytes=limit_bytes, by="the control group (memory limit of the container)")


def _address_limits(proc: Path) -> Iterator[MemoryLimit]:
    used = named_numbers("\n".join(_lines(proc / "self" / "status")))
    for kind, field, by in (
        (resource.RLIMIT_AS, "VmSize", "ulimit -v"),
        (resource.RLIMIT_DATA, "VmData", "ulimit -d"),
    ):
        limit_bytes, _ = resource.getrlimit(kind)
        if limit_bytes != resource.RLIM_INFINITY:
            yield MemoryLimit(bytes=max(0, limit_bytes - used.get(field, 0)), by=by)


def _control_groups(proc: Path, cgroups: Path) -> Iterator[Path]:
    """The directories of this process's memory group and of those that it lies in, of either version."""
    for line in _lines(proc / "self" / "cgroup"):
        number, controllers, place = line.split(":", 2)
        if number == "0":
            root = cgroups
        elif "memory" in controllers.split(","):
            root = cgroups / "memory"
        else:
            continue
        below = root / place.lstrip("/")
        yield from (below, *(parent for parent in below.parents if parent.is_relative_to(root)))


def _group_limit(directory: Path) -> int | None:
    """What is left of a group's limit; pages of files that can be dropped count as left."""
    for limit_name, used_name, file_pages in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = _number(directory / limit_name), _number(directory / used_name)
        if limit is not None and used is not None and limit < _UNLIMITED_BYTES:
            return max(0, limit - used + _file_pages(directory).get(file_pages, 0))
    return None


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _file_pages(directory: Path) -> dict[str, int]:
    return named_numbers("\n".join(_lines(directory / "memory.stat")))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
