"""What a machine looks like at one moment of a measurement: clocks, heat, power, current, memory.

Only what can be read quickly is: no tegrastats, which takes a second, and nvidia-smi only where there is one.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

from phiedge.devices.probe.clocks import core_clocks, gpu_clocks, memory_mhz
from phiedge.devices.probe.memory import find_memory
from phiedge.devices.probe.nvidia import Gpu, listed_gpus
from phiedge.devices.probe.power import drawn_watts
from phiedge.devices.probe.surfaces import Surfaces
from phiedge.devices.probe.thermal import over_currents, zones
from phiedge.errors import DeviceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One moment; `at_ns` counts from an arbitrary start, as `time.monotonic_ns`. What is not known is None.

    `core_mhz` is the mean of the cores, `celsius` the hottest sensor, `watts` what the module or all cards draw,
    `over_current_events` the sum since the start of the machine, `gpu_used_bytes` that of all cards, whoever uses them,
    `held_down` why a card's clock is lower than it could be.
    """

    at_ns: int
    core_mhz: float | None
    gpu_mhz: float | None
    memory_mhz: float | None
    celsius: float | None
    watts: float | None
    over_current_events: int | None
    available_bytes: int | None
    swapped_bytes: int
    gpu_used_bytes: int | None
    held_down: tuple[str, ...]

    def as_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def of_line(line: str) -> "Sample":
        """The sample that `as_line` wrote. Raises `DeviceError` for any other line."""
        names = {field.name for field in fields(Sample)}
        try:
            values = json.loads(line)
        except ValueError as error:
            raise DeviceError(f"a sample cannot be read: {line[:60]!r}", remedy="measure again") from error
        if not isinstance(values, dict) or set(values) != names:
            raise DeviceError(f"a sample has not the fields {sorted(names)}", remedy="measure again")
        return Sample(**{**values, "held_down": tuple(values["held_down"])})


def take(surfaces: Surfaces, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> Sample:
    """Look at the machine now."""
    gpus = listed_gpus(surfaces)
    cores = [clock.mhz for clock in core_clocks(surfaces) if clock.mhz is not None]
    counters, memory = over_currents(surfaces), find_memory(surfaces)
    return Sample(
        at_ns=clock_ns(),
        core_mhz=round(sum(cores) / len(cores), 1) if cores else None,
        gpu_mhz=_gpu_mhz(surfaces, gpus),
        memory_mhz=memory_mhz(surfaces),
        celsius=_hottest(surfaces, gpus),
        watts=drawn_watts(surfaces, gpus),
        over_current_events=sum(counter.events for counter in counters) if counters else None,
        available_bytes=memory.available_bytes,
        swapped_bytes=sum(swap.used_bytes for swap in memory.swaps),
        gpu_used_bytes=_used_bytes(gpus),
        held_down=tuple(dict.fromkeys(why for gpu in gpus for why in gpu.held_down)),
    )


def _gpu_mhz(surfaces: Surfaces, gpus: tuple[Gpu, ...]) -> float | None:
    """The slowest GPU, as it is the one that others wait for."""
    clocks = [clock.mhz for clock in gpu_clocks(surfaces)] + [gpu.clock_mhz for gpu in gpus]
    return min((mhz for mhz in clocks if mhz is not None), default=None)


def _hottest(surfaces: Surfaces, gpus: tuple[Gpu, ...]) -> float | None:
    found = [zone.celsius for zone in zones(surfaces)] + [gpu.celsius for gpu in gpus]
    return max((celsius for celsius in found if celsius is not None), default=None)


def _used_bytes(gpus: tuple[Gpu, ...]) -> int | None:
    used = [gpu.used_bytes for gpu in gpus if gpu.used_bytes is not None]
    return sum(used) if used else None
