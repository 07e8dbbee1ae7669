"""Clocks, heat, power and throttling while something is measured, from the telemetry sampler.

What no sensor tells is None. A sensor whose counter falls, a sampler that died and a power mode that changed are told:
then it is not known what was measured.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from phiedge.devices.probe.jetson import find_jetson
from phiedge.devices.probe.surfaces import surfaces_of
from phiedge.devices.telemetry import Sample, Sampler
from phiedge.errors import DeviceError

_NONE: dict[str, float | None] = dict.fromkeys(
    (
        "core_mhz",
        "gpu_mhz",
        "memory_mhz",
        "clock_shift",
        "celsius_start",
        "celsius",
        "watts",
        "throttled_samples",
        "over_current_events",
        "gpu_bytes",
    )
)
_CLOCKS = ("core_mhz", "gpu_mhz", "memory_mhz")
_SERIES = (*_CLOCKS, "celsius", "watts", "over_current_events", "available_bytes", "gpu_used_bytes")
_MOST_GAP = 30.0  # samples that may be missing at the end: nvidia-smi may take 10 seconds for one


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensed:
    """What sensors told. Clocks are the lowest that were seen, the rest the highest."""

    figures: dict[str, float | None] = field(default_factory=lambda: dict(_NONE))
    power_mode: str | None = None
    least_available_bytes: int | None = None
    series: dict[str, list[Any]] | None = None
    broken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Sensors:
    """The sampler of this machine, or of a recorded tree; `start` it, and `stop` it for what it told."""

    def __init__(self, *, every_seconds: float = 1.0, sysroot: Path | None = None) -> None:
        self._every, self._sysroot = every_seconds, sysroot
        self._directory, self._running = ExitStack(), ExitStack()
        self._sampler: Sampler | None = None
        self._begun_ns = 0
        self._mode: str | None = None

    def start(self) -> None:
        directory = Path(self._directory.enter_context(tempfile.TemporaryDirectory(prefix="phiedge-")))
        sampler = Sampler(directory / "samples", every_seconds=self._every, sysroot=self._sysroot)
        self._mode = self._power_mode()
        self._begun_ns = time.monotonic_ns()
        self._sampler = self._running.enter_context(sampler)

    def stop(self) -> Sensed:
        assert self._sampler is not None
        ended_ns, sampler = time.monotonic_ns(), self._sampler
        with self._directory:
            self._running.close()
            try:
                samples = sampler.samples()
            except (DeviceError, OSError) as error:
                return Sensed(broken=(f"the sensors cannot be read back: {error}",))
        mode = self._power_mode()
        found = sense(samples, begun_ns=self._begun_ns, ended_ns=ended_ns, every_seconds=self._every)
        changed = () if mode == self._mode else (f"the power mode changed from {self._mode} to {mode}",)
        return Sensed(
            figures=found.figures,
            power_mode=mode,
            least_available_bytes=found.least_available_bytes,
            series=found.series,
            broken=(*found.broken, *changed),
            notes=found.notes,
        )

    def _power_mode(self) -> str | None:
        jetson = find_jetson(surfaces_of(self._sysroot))
        return None if jetson is None else jetson.power_mode.name


def sense(samples: Sequence[Sample], *, begun_ns: int, ended_ns: int, every_seconds: float) -> Sensed:
    """What samples of a run tell together."""
    if not samples:
        return Sensed(broken=("the sensors told nothing: their process died",))
    told = {name: [getattr(one, name) for one in samples] for name in _SERIES}
    events = [value for value in told["over_current_events"] if value is not None]
    throttles = any(one.over_current_events is not None or one.watts is not None for one in samples)
    return Sensed(
        figures={
            **{name: _least(told[name]) for name in _CLOCKS},
            "clock_shift": max((shift for name in _CLOCKS if (shift := _shift(told[name])) is not None), default=None),
            "celsius_start": samples[0].celsius,
            "celsius": _most(told["celsius"]),
            "watts": _most(told["watts"]),
            "throttled_samples": sum(1 for one in samples if one.held_down) if throttles else None,
            "over_current_events": events[-1] - events[0] if events else None,
            "gpu_bytes": _most(told["gpu_used_bytes"]),
        },
        least_available_bytes=min(
            (one.available_bytes for one in samples if one.available_bytes is not None), default=None
        ),
        series={"at_s": [round((one.at_ns - begun_ns) / 1e9, 3) for one in samples]}
        | {name: values for name, values in told.items() if any(value is not None for value in values)},
        broken=tuple(_untrusted(samples, events, ended_ns, every_seconds)),
        notes=tuple(_throttling(samples)),
    )


def _untrusted(samples: Sequence[Sample], events: list[int], ended_ns: int, every_seconds: float) -> list[str]:
    said = []
    if any(later.at_ns < earlier.at_ns for earlier, later in pairwise(samples)):
        said.append("the clock of the sensors went backwards")
    if any(later < earlier for earlier, later in pairwise(events)):
        said.append("the counter of over-currents went backwards")
    silent_s = (ended_ns - samples[-1].at_ns) / 1e9
    if silent_s > _MOST_GAP + 2 * every_seconds:
        said.append(f"the sensors told nothing in the last {silent_s:.0f} s: their process died")
    return said


def _throttling(samples: Sequence[Sample]) -> list[str]:
    """What held clocks down, whether or not the spec asks."""
    reasons = dict.fromkeys(why for one in samples for why in one.held_down)
    return [f"a card was held down by {why}" for why in reasons]


def _shift(values: Sequence[float | None]) -> float | None:
    """How far a clock moved, as a share of its highest."""
    return _of(values, lambda known: (max(known) - min(known)) / max(known))


def _least(values: Sequence[float | None]) -> float | None:
    return _of(values, min)


def _most(values: Sequence[float | None]) -> float | None:
    return _of(values, max)


def _of(values: Sequence[float | None], what: Callable[[list[float]], float]) -> float | None:
    known = [value for value in values if value is not None]
    return what(known) if known else None
