"""Sentences for whoever reads the figures: what to mistrust, and what was left out."""

from collections.abc import Sequence

from phiedge.devices.host import Host
from phiedge.engines.machine_rates import HOST_BACKENDS, MachineRates
from phiedge.runtime.bench.report import DecodeCase, PrefillCase, Setting, VisionCase
from phiedge.runtime.bench.spread import P99_NEEDS, Spread

_BUSY_SHARE = 0.5  # load average over cores
_STEADY_SHARE = 0.8  # of the best rate, reached in the median
_STEADY_CLOCK = "performance"
_OVER_LIMIT = 1.02


def notes_on_conditions(host: Host, rates: MachineRates | None, setting: Setting) -> list[str]:
    """On the machine: how busy it was, how steady, and whether its limits hold for this model."""
    notes = []
    if host.load_average_1m > _BUSY_SHARE * host.cores:
        notes.append(
            f"the machine was busy: load average {host.load_average_1m:g} on {host.cores} cores before it began; "
            "times, and most of all their tails, include what others did"
        )
    if host.governor not in (None, _STEADY_CLOCK):
        notes.append(f"the clock governor is {host.governor!r}: the clock moves with the load")
    if rates is None:
        notes.append(f"there are no limits: the rates of what {setting.backend} computes on were not measured")
        return notes
    for name, unit, rate in (
        ("memory was read", "GB/s", rates.read_gbps),
        (f"{rates.float_type} products ran", "GFLOP/s", rates.float_gflops),
        ("8-bit products ran", "GOP/s", rates.int8_gops),
    ):
        if rate is not None and rate.median < _STEADY_SHARE * rate.best:
            notes.append(
                f"{name} at {rate.best:,.4g} {unit} at best, but at {rate.median:,.4g} in the median of "
                f"{rate.rounds}: the machine was not quiet; limits are made of the best"
            )
    cache = host.last_level_cache_bytes
    if setting.backend in HOST_BACKENDS and cache is not None and setting.weights_bytes < cache:
        notes.append(
            f"the decoder's weights ({setting.weights_bytes / 1e6:.1f} MB) fit the last cache ({cache / 1e6:.1f} MB): "
            "they need not come from memory, and small kernels cost more in starting than in reading"
        )
    return notes


def notes_on_cases(
    vision: Sequence[VisionCase],
    prefill: Sequence[PrefillCase],
    decode: Sequence[DecodeCase],
) -> list[str]:
    """On the figures: percentiles that have too few samples, pages from disk, a limit that was passed."""
    notes = []
    spreads: list[Spread] = [case.ms for cases in (vision, prefill, decode) for case in cases]
    if any(spread.p99 is None for spread in spreads):
        notes.append(f"p99 is given from {P99_NEEDS} samples on; with fewer, look at max")
    major_faults = sum(case.disturbance.major_faults for case in decode)
    if major_faults:
        notes.append(
            f"{major_faults} pages were read from disk while decoding: the bundle does not stay in memory, "
            "or had not been read before"
        )
    besides = [case.limit for cases in (vision, prefill, decode) for case in cases]
    if any(beside is not None and beside.share > _OVER_LIMIT for beside in besides):
        notes.append(
            "a limit was passed: the rates were measured on a busier machine than the model ran on, or it computes in "
            "fewer bits than they were measured in"
        )
    return notes
