"""What happened to the machine while something was measured on it, that makes the measurement one of something else."""

from collections.abc import Sequence

from phiedge.devices.telemetry.sample import Sample
from phiedge.errors import DeviceError

# A clock that is locked does not move but for rounding; one that does by more was not locked, or was throttled.
MOST_CLOCK_SHIFT = 0.03


def disturbances(samples: Sequence[Sample]) -> tuple[str, ...]:
    """A sentence for each; none for a machine that stayed as it was. Raises `DeviceError` without two samples."""
    if len(samples) < 2:
        raise DeviceError(
            f"{len(samples)} samples were taken, 2 at least are needed",
            remedy="measure for longer, or sample more often",
        )
    found = [
        _moved("cores", [sample.core_mhz for sample in samples]),
        _moved("GPU", [sample.gpu_mhz for sample in samples]),
        _moved("memory", [sample.memory_mhz for sample in samples]),
        _grown(samples),
        _swapped(samples),
        *(f"a card was held down by {why}" for why in dict.fromkeys(why for one in samples for why in one.held_down)),
    ]
    return tuple(sentence for sentence in found if sentence is not None)


def _moved(name: str, clocks: Sequence[float | None]) -> str | None:
    known = [mhz for mhz in clocks if mhz is not None]
    if not known or max(known) - min(known) <= MOST_CLOCK_SHIFT * max(known):
        return None
    return f"the clock of the {name} moved between {min(known):g} and {max(known):g} MHz"


def _grown(samples: Sequence[Sample]) -> str | None:
    events = [sample.over_current_events for sample in samples if sample.over_current_events is not None]
    grown = max(events) - min(events) if events else 0
    return f"the current was cut {grown} times" if grown else None


def _swapped(samples: Sequence[Sample]) -> str | None:
    grown = max(sample.swapped_bytes for sample in samples) - samples[0].swapped_bytes
    return f"{grown / 2**20:,.1f} MiB were swapped out" if grown > 0 else None
