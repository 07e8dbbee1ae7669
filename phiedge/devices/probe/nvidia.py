"""GPUs with a driver of their own, as nvidia-smi tells them. On a Jetson it tells a name and little else.

A column is found by its name, so that one that a driver lacks or adds moves no other. `[N/A]` and what is not a number
are not known.
"""

import csv
import re
from dataclasses import dataclass

from phiedge.devices.probe.surfaces import Said, Surfaces
from phiedge.devices.system_files import whole_number

NVIDIA_VENDOR = "0x10de"
_DISPLAY_CLASS = "0x03"
_PROC_DRIVER = "/proc/driver/nvidia/version"

# Bits of the reasons for which a clock is held down that a benchmark must not have (NVML, clocks event reasons).
HELD_DOWN = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU; `held_down` says why its clock is below what it could be. All but the name may be unknown."""

    name: str
    compute_capability: str | None
    memory_bytes: int | None
    used_bytes: int | None
    driver: str | None
    celsius: float | None
    utilization_percent: float | None
    clock_mhz: float | None
    most_clock_mhz: float | None
    memory_clock_mhz: float | None
    power_watts: float | None
    power_limit_watts: float | None
    persistence: bool | None
    mig: bool | None
    held_down: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUser:
    """A process that computes on a GPU."""

    pid: int
    name: str
    memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """All of them, and who uses them. `present` also counts a card that no driver answers for."""

    found: tuple[Gpu, ...]
    users: tuple[GpuUser, ...]
    present: bool
    problems: tuple[str, ...] = ()


def find_gpus(surfaces: Surfaces) -> Gpus:
    """The GPUs that nvidia-smi lists; none, and a problem, where there is a card but no answer."""
    said = surfaces.said("nvidia-smi-gpus")
    rows, gpus = _listed(said)
    card = _has_card(surfaces)
    problems: tuple[str, ...] = ()
    if len(gpus) != len(rows):
        problems = (f"{len(rows) - len(gpus)} of {len(rows)} GPUs in what nvidia-smi says have no name",)
    elif not gpus and (said is not None or card):
        problems = ("there is an NVIDIA driver or card, but nvidia-smi lists no GPU",)
    users = tuple(user for row in _user_rows(surfaces) if (user := _user(row)) is not None)
    return Gpus(found=gpus, users=users, present=bool(gpus or rows or card or said), problems=problems)


def listed_gpus(surfaces: Surfaces) -> tuple[Gpu, ...]:
    """The GPUs alone, with one run of nvidia-smi: for who asks again and again."""
    return _listed(surfaces.said("nvidia-smi-gpus"))[1]


def _listed(said: Said | None) -> tuple[list[dict[str, str]], tuple[Gpu, ...]]:
    rows = [] if said is None or said.failed else _rows(said.text)
    return rows, tuple(gpu for row in rows if (gpu := _gpu(row)) is not None)


def _rows(text: str) -> list[dict[str, str]]:
    """Rows by the names of their columns, without units (`memory.total [MiB]`); a row that is not as long is empty."""
    try:
        lines = [[cell.strip() for cell in line] for line in csv.reader(text.splitlines()) if line]
    except csv.Error:
        return []
    if not lines:
        return []
    names = [re.sub(r"\s*\[.*\]$", "", cell) for cell in lines[0]]
    if "name" not in names and "pid" not in names:
        return []
    return [dict(zip(names, line, strict=True)) if len(line) == len(names) else {} for line in lines[1:]]


def _gpu(row: dict[str, str]) -> Gpu | None:
    name = row.get("name", "")
    if not re.fullmatch(r"[\w .()/-]{2,80}", name, flags=re.ASCII):
        return None
    sm = row.get("compute_cap", "")
    reasons = row.get("clocks_throttle_reasons.active", row.get("clocks_event_reasons.active", ""))
    bits = int(reasons, 16) if re.fullmatch(r"0x[0-9a-fA-F]{1,16}", reasons) else 0
    return Gpu(
        name=name,
        compute_capability=sm if re.fullmatch(r"\d{1,2}\.\d", sm, flags=re.ASCII) else None,
        memory_bytes=_bytes(row.get("memory.total")),
        used_bytes=_bytes(row.get("memory.used"), least=0),
        driver=_version(row.get("driver_version", "")),
        celsius=_number(row.get("temperature.gpu"), least=-40, most=200),
        utilization_percent=_number(row.get("utilization.gpu"), least=0, most=100),
        clock_mhz=_number(row.get("clocks.current.sm", row.get("clocks.sm")), least=1, most=20_000),
        most_clock_mhz=_number(row.get("clocks.max.sm"), least=1, most=20_000),
        memory_clock_mhz=_number(row.get("clocks.current.memory", row.get("clocks.mem")), least=1, most=40_000),
        power_watts=_number(row.get("power.draw"), least=0, most=5000),
        power_limit_watts=_number(row.get("power.limit"), least=1, most=5000),
        persistence={"Enabled": True, "Disabled": False}.get(row.get("persistence_mode", "")),
        mig={"Enabled": True, "Disabled": False}.get(row.get("mig.mode.current", "")),
        held_down=tuple(why for bit, why in HELD_DOWN.items() if bits & bit),
    )


def _user_rows(surfaces: Surfaces) -> list[dict[str, str]]:
    said = surfaces.said("nvidia-smi-apps")
    return [] if said is None or said.failed else _rows(said.text)


def _user(row: dict[str, str]) -> GpuUser | None:
    pid = whole_number(row.get("pid"))
    if pid is None or pid < 1:
        return None
    memory = row.get("used_gpu_memory", row.get("used_memory"))
    return GpuUser(pid=pid, name=row.get("process_name", "")[:200], memory_bytes=_bytes(memory, least=0))


def _bytes(cell: str | None, *, least: int = 1) -> int | None:
    mebibytes = _number(cell, least=least, most=1 << 24, unit="MiB")
    return None if mebibytes is None else int(mebibytes * 2**20)


def _number(cell: str | None, *, least: float, most: float, unit: str = "") -> float | None:
    """A number within what can be, with its unit behind it; `unit` is the one that it must have."""
    match = re.fullmatch(r"(-?\d{1,9}(?:\.\d{1,4})?)(?: ([A-Za-z%]{1,5}))?", cell or "", flags=re.ASCII)
    if match is None or (unit and match[2] != unit):
        return None
    value = float(match[1])
    return value if least <= value <= most else None


def _version(text: str) -> str | None:
    return text if re.fullmatch(r"\d{1,4}(\.\d{1,4}){1,3}", text, flags=re.ASCII) else None


def _has_card(surfaces: Surfaces) -> bool:
    """Whether a display controller of NVIDIA's is plugged in, or its driver is loaded."""
    if surfaces.files.exists(_PROC_DRIVER):
        return True
    return any(
        surfaces.files.text(f"{path}/vendor") == NVIDIA_VENDOR
        and (surfaces.files.text(f"{path}/class") or "").startswith(_DISPLAY_CLASS)
        for path in surfaces.files.names("/sys/bus/pci/devices", "*")
    )
