"""`probe`: everything that a system, at hand or recorded, tells about itself, and which device that makes it."""

from dataclasses import asdict, dataclass
from pathlib import Path

from phiedge.devices.probe.clocks import Clock, core_clocks, gpu_clocks, memory_clock
from phiedge.devices.probe.cores import Cores, find_cores
from phiedge.devices.probe.identity import Identity, identify
from phiedge.devices.probe.jetson import KERNEL_FILE, Jetson, find_jetson
from phiedge.devices.probe.memory import Memory, find_memory
from phiedge.devices.probe.nvidia import Gpus, find_gpus
from phiedge.devices.probe.surfaces import Surfaces, surfaces_of
from phiedge.devices.probe.thermal import OverCurrent, Zone, over_currents, zones
from phiedge.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What was found. `memory_clock` and `gpu_clocks` are a Jetson's; a card's clocks stand with it in `gpus`."""

    identity: Identity
    kernel: str | None
    cores: Cores
    memory: Memory
    jetson: Jetson | None
    gpus: Gpus
    core_clocks: tuple[Clock, ...]
    gpu_clocks: tuple[Clock, ...]
    memory_clock: Clock | None
    zones: tuple[Zone, ...]
    over_currents: tuple[OverCurrent, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """What was found and does not hold together."""
        return (() if self.jetson is None else self.jetson.problems) + self.gpus.problems

    def as_dict(self) -> dict[str, object]:
        """JSON-ready values; what is not known is null."""
        return asdict(self)


def probe(sysroot: Path | None = None) -> Probe:
    """Look at this machine, or at the tree recorded in `sysroot`. Needs no rights; what they would add stays unknown.

    Raises `UsageError` if `sysroot` is not a directory.
    """
    check_sysroot(sysroot)
    return probe_surfaces(surfaces_of(sysroot))


def check_sysroot(sysroot: Path | None) -> None:
    """Refuse what is not the root of a tree."""
    if sysroot is not None and not sysroot.is_dir():
        raise UsageError(f"{sysroot} is not a directory", remedy="name the root of a recorded system")


def probe_surfaces(surfaces: Surfaces) -> Probe:
    """Look at a system through its surfaces."""
    jetson, gpus = find_jetson(surfaces), find_gpus(surfaces)
    memory, cores = find_memory(surfaces), find_cores(surfaces)
    return Probe(
        identity=identify(jetson=jetson, gpus=gpus, memory=memory, cores=cores),
        kernel=surfaces.files.text(KERNEL_FILE),
        cores=cores,
        memory=memory,
        jetson=jetson,
        gpus=gpus,
        core_clocks=core_clocks(surfaces),
        gpu_clocks=gpu_clocks(surfaces),
        memory_clock=None if jetson is None else memory_clock(surfaces),
        zones=zones(surfaces),
        over_currents=over_currents(surfaces),
    )
