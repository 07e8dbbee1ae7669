"""Clocks: of the cores, of a Jetson's GPU, and of its memory, as the kernel's files and tegrastats tell them.

A clock outside of what any such part runs at is not told.
"""

import re
from dataclasses import dataclass

from phiedge.devices.probe.surfaces import Surfaces

CPUFREQ = "/sys/devices/system/cpu/cpufreq"
DEVFREQ = "/sys/class/devfreq"
MEMORY_CLOCK_FILE = "/sys/kernel/debug/bpmp/debug/clk/emc/rate"
MEMORY_CLOCK_MOST_FILE = "/sys/kernel/debug/bpmp/debug/clk/emc/max_rate"
# Orin of today and of JetPack 5, and Thor's clusters for graphics and video.
GPU_NAMES = ("17000000.gpu", "17000000.ga10b", "gpu-gpc-0", "gpu-nvd-0")
_LEAST_MHZ, _MOST_MHZ = 1, 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """One clock and the bounds within which its governor moves it; equal bounds hold it still."""

    name: str
    mhz: float | None
    least_mhz: float | None
    most_mhz: float | None
    governor: str | None

    @property
    def held(self) -> bool | None:
        """Whether it cannot move; None where the bounds are not known."""
        return None if self.least_mhz is None or self.most_mhz is None else self.least_mhz == self.most_mhz


def core_clocks(surfaces: Surfaces) -> tuple[Clock, ...]:
    """One for each group of cores that share a clock. `most_mhz` is what the governor may choose."""
    return tuple(
        Clock(
            name=path.rpartition("/")[2],
            mhz=_mhz(surfaces.files.number(f"{path}/scaling_cur_freq"), 1e3),
            least_mhz=_mhz(surfaces.files.number(f"{path}/scaling_min_freq"), 1e3),
            most_mhz=_mhz(surfaces.files.number(f"{path}/scaling_max_freq"), 1e3),
            governor=_word(surfaces.files.text(f"{path}/scaling_governor")),
        )
        for path in surfaces.files.names(CPUFREQ, "policy*")
    )


def gpu_clocks(surfaces: Surfaces) -> tuple[Clock, ...]:
    """Those of a Jetson's GPU."""
    return tuple(
        Clock(
            name=name,
            mhz=_mhz(surfaces.files.number(f"{DEVFREQ}/{name}/cur_freq"), 1e6),
            least_mhz=_mhz(surfaces.files.number(f"{DEVFREQ}/{name}/min_freq"), 1e6),
            most_mhz=_mhz(surfaces.files.number(f"{DEVFREQ}/{name}/max_freq"), 1e6),
            governor=_word(surfaces.files.text(f"{DEVFREQ}/{name}/governor")),
        )
        for name in GPU_NAMES
        if surfaces.files.exists(f"{DEVFREQ}/{name}")
    )


def memory_mhz(surfaces: Surfaces) -> float | None:
    """The clock of a Jetson's memory as root's file tells it, without running a program."""
    return _mhz(surfaces.files.number(MEMORY_CLOCK_FILE), 1e6)


def memory_clock(surfaces: Surfaces) -> Clock | None:
    """The clock of a Jetson's memory: root's file, or what tegrastats says to everybody; None where neither tells."""
    mhz = memory_mhz(surfaces)
    most_mhz = _mhz(surfaces.files.number(MEMORY_CLOCK_MOST_FILE), 1e6)
    if mhz is None:
        said = surfaces.said("tegrastats")
        match = re.search(r"\bEMC_FREQ \d{1,3}%@(\d{1,5})\b", said.text if said else "", flags=re.ASCII)
        mhz = _mhz(int(match[1]), 1) if match else None
    if mhz is None:
        return None
    return Clock(name="emc", mhz=mhz, least_mhz=None, most_mhz=most_mhz, governor=None)


def _mhz(value: int | None, divisor: float) -> float | None:
    mhz = None if value is None else round(value / divisor, 1)
    return mhz if mhz is not None and _LEAST_MHZ <= mhz <= _MOST_MHZ else None


def _word(text: str | None) -> str | None:
    return text if text and re.fullmatch(r"[a-z0-9_-]{1,40}", text) else None
