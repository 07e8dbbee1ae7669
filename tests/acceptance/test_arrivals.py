"""When requests are meant to start."""

from itertools import islice

import pytest

from phiedge.acceptance.arrivals import intended_offsets_ns
from phiedge.acceptance.spec import Arrival


def offsets_ms(arrival: Arrival, count: int, seed: int = 0) -> list[float]:
    return [offset / 1e6 for offset in islice(intended_offsets_ns(arrival, seed), count)]


def test_periodic_starts_do_not_drift() -> None:
    assert offsets_ms(Arrival(kind="periodic", period_ms=33.3), 1001)[-1] == pytest.approx(33_300.0)


def test_poisson_starts_keep_their_rate_and_their_seed() -> None:
    arrival = Arrival(kind="poisson", rate_hz=20.0)
    assert offsets_ms(arrival, 4001)[-1] == pytest.approx(4000 * 50.0, rel=0.05)
    assert offsets_ms(arrival, 10, seed=3) == offsets_ms(arrival, 10, seed=3) != offsets_ms(arrival, 10, seed=4)


def test_a_trace_goes_round_again_after_a_mean_pause() -> None:
    assert offsets_ms(Arrival(kind="trace", offsets_ms=(0.0, 10.0, 40.0)), 5) == [0.0, 10.0, 40.0, 60.0, 70.0]
