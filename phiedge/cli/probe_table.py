"""What `phiedge devices probe` shows a person."""

from typing import TYPE_CHECKING

from phiedge.cli.console import show_table
from phiedge.cli.interrupts import held_interrupts
from phiedge.devices.probe import Probe
from phiedge.devices.probe.clocks import Clock
from phiedge.devices.probe.nvidia import Gpu
from phiedge.devices.probe.thermal import Zone

if TYPE_CHECKING:
    from phiedge.engines.machine_rates import MachineRates

UNKNOWN = "unknown"
_SECONDS = 0.5  # for each rate


def measure_processor() -> "MachineRates | None":
    """How fast the processor reads memory and multiplies, with a thread for each physical core."""
    with held_interrupts():
        from phiedge.engines.backends import DEFAULT_BACKEND
        from phiedge.engines.machine_rates import measure_rates
        from phiedge.engines.threads import default_threads

    return measure_rates(backend=DEFAULT_BACKEND, threads=default_threads(), seconds=_SECONDS)


def show_probe(found: Probe, rates: "MachineRates | None") -> None:
    """Print everything that was found; what is not known says so where it would stand."""
    rows = [("device", found.identity.device or UNKNOWN), ("because", found.identity.why)]
    rows += _jetson_rows(found)
    rows += [("kernel", found.kernel or UNKNOWN), *_core_rows(found), *_memory_rows(found)]
    for gpu in found.gpus.found:
        rows += _gpu_rows(gpu)
    rows += [("gpu user", f"{user.pid} {user.name}".strip()) for user in found.gpus.users]
    rows += [(f"clock {clock.name}", _clock(clock)) for clock in (*found.core_clocks, *found.gpu_clocks)]
    if found.jetson is not None:
        rows.append(("clock of memory", UNKNOWN if found.memory_clock is None else _clock(found.memory_clock)))
    rows += [(f"heat {zone.name}", _zone(zone)) for zone in found.zones]
    rows += [(f"over-current {counter.name}", f"{counter.events} events") for counter in found.over_currents]
    if rates is not None:
        rows += _rate_rows(rates)
    show_table(None, ("", ""), rows)
    for problem in found.problems:
        print(f"note: {problem}")


def _jetson_rows(found: Probe) -> list[tuple[str, str]]:
    jetson = found.jetson
    if jetson is None:
        return []
    mode = jetson.power_mode
    choices = ", ".join(f"{choice.number} {choice.name}" for choice in mode.choices)
    jetpack = f"JetPack {jetson.jetpack}" if jetson.jetpack else f"JetPack {UNKNOWN}"
    return [
        ("model", jetson.model or UNKNOWN),
        ("module", f"{jetson.part or UNKNOWN}, {jetson.soc or UNKNOWN}"),
        ("release", f"L4T {jetson.l4t}, {jetpack}" if jetson.l4t else UNKNOWN),
        ("power mode", (mode.name or UNKNOWN) + (f"  (of {choices})" if choices else "")),
    ]


def _core_rows(found: Probe) -> list[tuple[str, str]]:
    cores = found.cores
    caches = ", ".join(f"{cache.name} {cache.size_bytes / 2**10:,.0f} KiB" for cache in cores.caches)
    return [
        ("processor", f"{cores.name or cores.architecture or UNKNOWN}, {cores.count or UNKNOWN} cores"),
        ("instructions", " ".join(cores.instruction_sets) or UNKNOWN),
        ("caches", caches or UNKNOWN),
    ]


def _memory_rows(found: Probe) -> list[tuple[str, str]]:
    memory = found.memory
    swaps = [f"{swap.name}, {_gib(swap.size_bytes)}, {_gib(swap.used_bytes)} used" for swap in memory.swaps]
    size = f"{_gib(memory.total_bytes)}, {_gib(memory.available_bytes)} available"
    return [("memory", size), *(("swap", told) for told in swaps)]


def _gpu_rows(gpu: Gpu) -> list[tuple[str, str]]:
    watts = "" if gpu.power_watts is None else f", {gpu.power_watts:g} of {gpu.power_limit_watts or 0:g} W"
    clock = UNKNOWN if gpu.clock_mhz is None else f"{gpu.clock_mhz:g} of {gpu.most_clock_mhz or 0:g} MHz"
    heat = "" if gpu.celsius is None else f", {gpu.celsius:g} °C"
    rows = [
        ("GPU", f"{gpu.name}, SM {gpu.compute_capability or UNKNOWN}, driver {gpu.driver or UNKNOWN}"),
        ("  memory", f"{_gib(gpu.memory_bytes)}, {_gib(gpu.used_bytes)} used"),
        ("  clock", clock + watts + heat),
    ]
    if gpu.held_down:
        rows.append(("  held down by", ", ".join(gpu.held_down)))
    return rows


def _rate_rows(rates: "MachineRates") -> list[tuple[str, str]]:
    rows = [("reads memory at", f"{rates.read_gbps.best:,.1f} GB/s, {rates.threads} threads (measured)")]
    rows.append((f"multiplies {rates.float_type} at", f"{rates.float_gflops.best:,.0f} GFLOP/s (measured)"))
    if rates.int8_gops is not None:
        rows.append(("multiplies int8 at", f"{rates.int8_gops.best:,.0f} GOP/s (measured)"))
    return rows


def _clock(clock: Clock) -> str:
    now = UNKNOWN if clock.mhz is None else f"{clock.mhz:g} MHz"
    bounds = "" if clock.least_mhz is None or clock.most_mhz is None else f", {clock.least_mhz:g} to {clock.most_mhz:g}"
    return now + bounds + (f", {clock.governor}" if clock.governor else "")


def _zone(zone: Zone) -> str:
    now = UNKNOWN if zone.celsius is None else f"{zone.celsius:g} °C"
    return now + ("" if zone.passive_celsius is None else f", throttles at {zone.passive_celsius:g} °C")


def _gib(size_bytes: int | None) -> str:
    return UNKNOWN if size_bytes is None else f"{size_bytes / 2**30:,.1f} GiB"
