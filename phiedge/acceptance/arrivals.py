"""When requests are meant to start. Latency counts from there: a request that had to wait is late by its wait.

Measuring from the real start instead hides every stall behind itself ("coordinated omission", Gil Tene).
"""

import random
import threading
import time
from collections.abc import Iterator

from phiedge.acceptance.spec import Arrival

_SPIN_NS = 2_000_000  # a sleeping thread may wake up so late; the rest is waited for awake


def intended_offsets_ns(arrival: Arrival, seed: int) -> Iterator[int]:
    """Offsets from the start of the run, without end, for arrivals that do not wait for answers."""
    offset_ms, draws, place = 0.0, random.Random(seed), 0
    while True:
        if arrival.kind == "trace":
            assert arrival.offsets_ms is not None
            rounds, index = divmod(place, len(arrival.offsets_ms))
            yield round((rounds * _round_ms(arrival.offsets_ms) + arrival.offsets_ms[index]) * 1e6)
            place += 1
            continue
        yield round(offset_ms * 1e6)
        if arrival.period_ms is not None:
            offset_ms += arrival.period_ms
        else:
            assert arrival.rate_hz is not None
            offset_ms += 1e3 * draws.expovariate(arrival.rate_hz)


def wait_until(moment_ns: int) -> None:
    """Return at `moment_ns` of `time.perf_counter_ns`, or at once if it has passed."""
    ahead_ns = moment_ns - time.perf_counter_ns() - _SPIN_NS
    if ahead_ns > 0:
        threading.Event().wait(ahead_ns / 1e9)
    while time.perf_counter_ns() < moment_ns:
        pass


def _round_ms(offsets_ms: tuple[float, ...]) -> float:
    """How long one round of a trace lasts: to its last start, and a mean pause more."""
    return offsets_ms[-1] + (offsets_ms[-1] - offsets_ms[0]) / (len(offsets_ms) - 1)
