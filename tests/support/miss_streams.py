"""Streams of hits and misses of simulated devices, for many campaigns at once."""

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]


def miss_streams(rng: np.random.Generator, campaigns: int, requests: int, *, rate: float, rho: float | None) -> Bools:
    """Misses [campaigns, requests] at a miss rate of `rate`; one follows another with `rho`, None for independent ones.

    A stream starts as a device in service does: already missing with a probability of `rate`.
    """
    draws = rng.random((campaigns, requests))
    if rho is None:
        return draws < rate
    start = rate * (1.0 - rho) / (1.0 - rate)
    missed = np.zeros((campaigns, requests), dtype=np.bool_)
    missed[:, 0] = draws[:, 0] < rate
    for place in range(1, requests):
        missed[:, place] = draws[:, place] < np.where(missed[:, place - 1], rho, start)
    return missed


def one_run(campaigns: int, requests: int) -> Bools:
    """The marks of first requests for runs that were never restarted."""
    first = np.zeros((campaigns, requests), dtype=np.bool_)
    first[:, :1] = True
    return first
