"""What this machine can do, measured: the rates that the limits of a benchmark are made of.

A limit is what the machine can do when nothing disturbs it, so a rate is the best of its rounds; the median beside it
tells how quiet the machine was. Measured on the host only: of a backend that computes elsewhere nothing is claimed.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from phiedge.bundle import Precision
from phiedge.devices.read_bandwidth import read_gbps
from phiedge.devices.roofline import Rates

HOST_BACKENDS = ("onnxruntime",)
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
    """Memory read, and products of float32 and of 8-bit integers, with `threads` threads."""

    threads: int
    read_gbps: MeasuredRate
    float_gflops: MeasuredRate
    int8_gops: MeasuredRate

    def best_with(self, other: "MachineRates") -> "MachineRates":
        """Of each rate the better of the two measurements; each keeps the median of its own measurement."""
        assert self.threads == other.threads
        return MachineRates(
            threads=self.threads,
            read_gbps=_better(self.read_gbps, other.read_gbps),
            float_gflops=_better(self.float_gflops, other.float_gflops),
            int8_gops=_better(self.int8_gops, other.int8_gops),
        )

    def for_decoder(self, precision: Precision) -> Rates:
        """The roof of the decoder: quantised weights at the faster of the two products, all else in float32."""
        integers = precision.decoder in _INTEGERS
        weight_gops = max(self.int8_gops.best, self.float_gflops.best) if integers else self.float_gflops.best
        return Rates(read_gbps=self.read_gbps.best, weight_gops=weight_gops, float_gflops=self.float_gflops.best)

    def for_vision(self) -> Rates:
        """The roof of the vision encoder, which computes in float32."""
        rate = self.float_gflops.best
        return Rates(read_gbps=self.read_gbps.best, weight_gops=rate, float_gflops=rate)


def measure_rates(*, backend: str, threads: int, seconds: float = 1.0) -> MachineRates | None:
    """Measure now, each rate for about `seconds`; None for a backend that does not compute on the host.

    For the time of the call it takes memory to read, `read_bandwidth` says how much.
    """
    if backend not in HOST_BACKENDS:
        return None
    from phiedge.engines.onnxruntime.product_rates import float_gflops, int8_gops

    by_reduction = read_gbps(threads=threads, seconds=seconds)
    fastest = max(by_reduction.values(), key=max)
    return MachineRates(
        threads=threads,
        read_gbps=MeasuredRate.of(fastest),
        float_gflops=MeasuredRate.of(float_gflops(threads=threads, seconds=seconds)),
        int8_gops=MeasuredRate.of(int8_gops(threads=threads, seconds=seconds)),
    )


def _better(one: MeasuredRate, other: MeasuredRate) -> MeasuredRate:
    return one if one.best >= other.best else other
