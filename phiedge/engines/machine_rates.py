"""What this machine can do, measured: the rates that the limits of a benchmark are made of.

A limit is what the machine can do when nothing disturbs it, so a rate is the best of its rounds; the median beside it
tells how quiet the machine was. It is measured where the backend computes, on the host or on a GPU; of a backend that
is not known here nothing is claimed.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from phiedge.bundle import Precision
from phiedge.devices.read_bandwidth import read_gbps
from phiedge.devices.roofline import Rates
from phiedge.engines.backends import DEFAULT_BACKEND, GPU_BACKEND, OPENVINO_BACKEND

HOST_BACKENDS = (DEFAULT_BACKEND, OPENVINO_BACKEND)
_INTEGERS = ("int4", "int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRate:
    """The best and the median of `rounds`, in the unit that the field's name says."""

    best: float
    median: float
    rounds: int

    @staticmethod
    def of(samples: Sequence[float]) -> "MeasuredRate":
        return MeasuredRate(best=max(samples), median=statistics.median(samples), rounds=len(samples))


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRates:
    """Memory read, and products of `float_type` and of 8-bit integers, with `threads` threads of the host.

    `int8_gops` is None where quantised weights are multiplied as floats, which is what a GPU does with them.
    """

    threads: int
    float_type: str
    read_gbps: MeasuredRate
    float_gflops: MeasuredRate
    int8_gops: MeasuredRate | None

    def best_with(self, other: "MachineRates") -> "MachineRates":
        """Of each rate the better of the two measurements; each keeps the median of its own measurement."""
        assert (self.threads, self.float_type) == (other.threads, other.float_type)
        int8 = [rates.int8_gops for rates in (self, other) if rates.int8_gops is not None]
        return MachineRates(
            threads=self.threads,
            float_type=self.float_type,
            read_gbps=_better(self.read_gbps, other.read_gbps),
            float_gflops=_better(self.float_gflops, other.float_gflops),
            int8_gops=_better(*int8) if len(int8) == 2 else None,
        )

    def for_decoder(self, precision: Precision) -> Rates:
        """The roof of the decoder: quantised weights at the faster of the two products, all else as floats."""
        weight_gops = float_gflops = self.float_gflops.best
        if precision.decoder in _INTEGERS and self.int8_gops is not None:
            weight_gops = max(self.int8_gops.best, float_gflops)
        return Rates(read_gbps=self.read_gbps.best, weight_gops=weight_gops, float_gflops=float_gflops)

    def for_vision(self) -> Rates:
        """The roof of the vision encoder, which computes in floats."""
        rate = self.float_gflops.best
        return Rates(read_gbps=self.read_gbps.best, weight_gops=rate, float_gflops=rate)


def measure_rates(*, backend: str, threads: int, seconds: float = 1.0) -> MachineRates | None:
    """Measure now, each rate for about `seconds`; None for a backend of which it is not known how.

    For the time of the call it takes memory to read; `read_bandwidth` and `device_rates` say how much.
    """
    if backend == GPU_BACKEND:
        return _of_device(threads, seconds)
    return _of_host(threads, seconds) if backend in HOST_BACKENDS else None


def _of_host(threads: int, seconds: float) -> MachineRates:
    from phiedge.engines.onnxruntime.product_rates import float_gflops, int8_gops

    by_reduction = read_gbps(threads=threads, seconds=seconds)
    fastest = max(by_reduction.values(), key=max)
    return MachineRates(
        threads=threads,
        float_type="float32",
        read_gbps=MeasuredRate.of(fastest),
        float_gflops=MeasuredRate.of(float_gflops(threads=threads, seconds=seconds)),
        int8_gops=MeasuredRate.of(int8_gops(threads=threads, seconds=seconds)),
    )


def _of_device(threads: int, seconds: float) -> MachineRates:
    from phiedge.engines.onnxruntime.device_rates import copy_gbps, half_gflops
    from phiedge.engines.onnxruntime.provider import cuda

    provider = cuda(captures=False)
    return MachineRates(
        threads=threads,
        float_type="float16",
        read_gbps=MeasuredRate.of(copy_gbps(provider, seconds=seconds)),
        float_gflops=MeasuredRate.of(half_gflops(provider, seconds=seconds)),
        int8_gops=None,
    )


def _better(one: MeasuredRate, other: MeasuredRate) -> MeasuredRate:
    return one if one.best >= other.best else other
