from dataclasses import replace

import pytest

from phiedge.devices import read_bandwidth
from phiedge.devices.roofline import Rates
from phiedge.engines.machine_rates import MachineRates, MeasuredRate, measure_rates


def rate(best: float, median: float | None = None) -> MeasuredRate:
    return MeasuredRate(best=best, median=best if median is None else median, rounds=9)


RATES = MachineRates(
    threads=2, float_type="float32", read_gbps=rate(48.0), float_gflops=rate(400.0), int8_gops=rate(1600.0)
)


def test_a_rate_is_its_best_round_with_the_median_beside_it() -> None:
    assert MeasuredRate.of([1.0, 4.0, 2.0]) == MeasuredRate(best=4.0, median=2.0, rounds=3)


def test_of_two_measurements_each_rate_is_the_better_one() -> None:
    later = replace(RATES, read_gbps=rate(50.0, 30.0), float_gflops=rate(390.0))
    best = RATES.best_with(later)
    assert best.read_gbps == rate(50.0, 30.0)
    assert best.float_gflops == rate(400.0)


@pytest.mark.parametrize(("decoder", "weight_gops"), [("int4", 1600.0), ("float16", 400.0), ("float32", 400.0)])
def test_only_quantised_weights_are_multiplied_as_integers(plain_manifest, decoder: str, weight_gops: float) -> None:
    precision = replace(plain_manifest.precision, decoder=decoder)
    assert RATES.for_decoder(precision) == Rates(read_gbps=48.0, weight_gops=weight_gops, float_gflops=400.0)


def test_where_integers_are_slower_quantised_weights_have_the_rate_of_floats(plain_manifest) -> None:
    slow = replace(RATES, int8_gops=rate(100.0))
    assert slow.for_decoder(plain_manifest.precision).weight_gops == 400.0


def test_a_device_multiplies_quantised_weights_as_floats(plain_manifest) -> None:
    device = replace(RATES, float_type="float16", int8_gops=None)
    assert device.for_decoder(plain_manifest.precision).weight_gops == 400.0
    assert device.best_with(device).int8_gops is None


def test_a_device_is_measured_with_its_own_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phiedge.engines.onnxruntime.device_rates.copy_gbps", lambda provider, seconds: [4000.0])
    monkeypatch.setattr("phiedge.engines.onnxruntime.device_rates.half_gflops", lambda provider, seconds: [700_000.0])
    rates = measure_rates(backend="onnxruntime-cuda", threads=4)
    assert rates is not None
    assert (rates.float_type, rates.read_gbps.best, rates.float_gflops.best) == ("float16", 4000.0, 700_000.0)
    assert rates.int8_gops is None


def test_pictures_are_computed_in_floats() -> None:
    assert RATES.for_vision() == Rates(read_gbps=48.0, weight_gops=400.0, float_gflops=400.0)


def test_the_host_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_bandwidth, "suitable_bytes", lambda: 2**22)
    rates = measure_rates(backend="onnxruntime", threads=1, seconds=0)
    assert rates is not None
    assert min(rates.read_gbps.median, rates.float_gflops.median, rates.int8_gops.median) > 0
    assert rates.threads == 1


def test_nothing_is_claimed_of_a_backend_that_computes_elsewhere() -> None:
    assert measure_rates(backend="elsewhere", threads=1) is None
