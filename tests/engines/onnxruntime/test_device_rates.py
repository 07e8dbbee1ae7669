"""On the CPU provider, as the tests have no device; the bindings are the same ones."""

import itertools
from dataclasses import replace

import pytest

from phiedge.engines.onnxruntime.device_rates import copy_gbps, half_gflops
from phiedge.engines.onnxruntime.provider import cpu
from phiedge.errors import SessionError


def test_a_copy_counts_what_is_read_and_what_is_written() -> None:
    ticks = itertools.count(0, 1_000_000)
    rates = copy_gbps(cpu(), seconds=0, size_bytes=2**20, clock_ns=lambda: next(ticks))
    assert rates == pytest.approx([2 * 2**20 / 1e6] * 5)


def test_a_product_counts_two_operations_for_each_weight_and_row() -> None:
    ticks = itertools.count(0, 1_000_000)
    rates = half_gflops(cpu(), seconds=0, rows=32, side=64, clock_ns=lambda: next(ticks))
    assert rates == pytest.approx([2 * 32 * 64 * 64 / 1e6] * 5)


def test_a_device_that_is_not_there_is_told() -> None:
    nowhere = replace(cpu(), device="cuda", device_id=7)
    with pytest.raises(SessionError, match="could not be measured"):
        copy_gbps(nowhere, seconds=0, size_bytes=2**20)
