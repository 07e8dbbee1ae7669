"""Heat and current: what the sensors say, where they begin to throttle, and how often current was cut.

A sensor of a part that is switched off fails to be read, or says -256 degrees: both are "not known". Trip points are
the kernel's own; none is assumed here.
"""

import re
from dataclasses import dataclass

from phiedge.devices.probe.surfaces import Surfaces

ZONES = "/sys/class/thermal"
HWMON = "/sys/class/hwmon"
_LEAST_CELSIUS, _MOST_CELSIUS = -60.0, 200.0
_MOST_TRIPS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """One sensor. `passive_celsius` is the lowest trip point at which the kernel slows something down."""

    name: str
    celsius: float | None
    passive_celsius: float | None

    @property
    def headroom_celsius(self) -> float | None:
        """How much warmer it may get before it throttles."""
        if self.celsius is None or self.passive_celsius is None:
            return None
        return round(self.passive_celsius - self.celsius, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverCurrent:
    """How often an over-current alarm was raised since the start; `throttles` if it slows the chip down."""

    name: str
    events: int
    throttles: bool | None


def zones(surfaces: Surfaces) -> tuple[Zone, ...]:
    """Every sensor that has a name."""
    found = []
    for path in surfaces.files.names(ZONES, "thermal_zone*"):
        name = surfaces.files.text(f"{path}/type")
        if name and re.fullmatch(r"[\w. -]{1,60}", name, flags=re.ASCII):
            celsius = _celsius(surfaces.files.number(f"{path}/temp"))
            found.append(Zone(name=name, celsius=celsius, passive_celsius=_passive(surfaces, path)))
    return tuple(found)


def over_currents(surfaces: Surfaces) -> tuple[OverCurrent, ...]:
    """The counters of a Jetson; they only ever grow, so it is their growth that tells something."""
    found = []
    for path in surfaces.files.names(HWMON, "hwmon*"):
        if surfaces.files.text(f"{path}/name") != "soctherm_oc":
            continue
        for counter in surfaces.files.names(path, "oc*_event_cnt"):
            name = counter.rpartition("/")[2].removesuffix("_event_cnt")
            events, throttles = surfaces.files.number(counter), surfaces.files.number(f"{path}/{name}_throt_en")
            if events is not None and events >= 0:
                throttles_known = {0: False, 1: True}.get(-1 if throttles is None else throttles)
                found.append(OverCurrent(name=name, events=events, throttles=throttles_known))
    return tuple(found)


def _passive(surfaces: Surfaces, path: str) -> float | None:
    trips = []
    for number in range(_MOST_TRIPS):
        kind = surfaces.files.text(f"{path}/trip_point_{number}_type")
        if kind is None:
            break
        celsius = _celsius(surfaces.files.number(f"{path}/trip_point_{number}_temp"))
        if kind == "passive" and celsius is not None and celsius > 0:
            trips.append(celsius)
    return min(trips, default=None)


def _celsius(thousandths: int | None) -> float | None:
    celsius = None if thousandths is None else round(thousandths / 1000, 1)
    return celsius if celsius is not None and _LEAST_CELSIUS < celsius < _MOST_CELSIUS else None
