import itertools

import pytest

from phiedge.devices import read_bandwidth
from phiedge.devices.read_bandwidth import REDUCTIONS, read_gbps


def test_every_reduction_gives_a_rate_for_every_round() -> None:
    ticks = itertools.count(0, 1_000_000)
    rates = read_gbps(threads=2, size_bytes=2**20, seconds=0, clock_ns=lambda: next(ticks))
    assert rates.keys() == REDUCTIONS.keys()
    assert all(samples == pytest.approx([2**20 / 1e6] * 3) for samples in rates.values())


def test_arrays_are_larger_than_the_cache_and_small_beside_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_bandwidth, "last_level_cache_bytes", lambda: 2**29)
    monkeypatch.setattr(read_bandwidth, "available_memory_bytes", lambda: 2**40)
    assert read_bandwidth.suitable_bytes() == 2**31
    monkeypatch.setattr(read_bandwidth, "available_memory_bytes", lambda: 2**32)
    assert read_bandwidth.suitable_bytes() == 2**29
    monkeypatch.setattr(read_bandwidth, "available_memory_bytes", lambda: None)
    monkeypatch.setattr(read_bandwidth, "last_level_cache_bytes", lambda: None)
    assert read_bandwidth.suitable_bytes() == 2**30
