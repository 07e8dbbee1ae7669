"""What `phiedge plan` measures where it plans for the machine that it runs on."""

import sys

from phiedge.bundle import Precision
from phiedge.cli.console import terminal_progress
from phiedge.cli.interrupts import held_interrupts
from phiedge.devices.host import Host, host
from phiedge.devices.memory_limits import available_memory
from phiedge.devices.planning.plan import Task
from phiedge.devices.planning.sampled import SampledTimes
from phiedge.devices.planning.speeds import processor_speeds
from phiedge.devices.planning.storage import Storage
from phiedge.devices.planning.time import Speeds
from phiedge.errors import DeviceError

_BUSY = 0.5  # of its processors; what is measured beside that much work is not what the machine can do


def measured(
    storage: Storage, precision: Precision, task: Task, *, positions: int, patches: int
) -> tuple[Speeds, int | None]:
    """What this machine does, measured now, and the memory that is left on it.

    `positions` and `patches` are those of the longest request and the largest picture that are asked about.
    """
    from phiedge.cli.probe_table import measure_processor

    _tell_if_busy(host())
    limit = available_memory()
    free_bytes = None if limit is None else limit.bytes
    rates = measure_processor()
    if rates is None:
        raise DeviceError("this machine could not be measured", remedy="plan for a device of the catalogue")
    speeds = processor_speeds(
        read_gbps=rates.read_gbps.best,
        float_gflops=rates.float_gflops.best,
        int8_gops=None if rates.int8_gops is None else rates.int8_gops.best,
        quantised=storage.decoder_bits < 16,
        sampled=sampled(precision, task, positions=positions, patches=patches, free_bytes=free_bytes),
    )
    return speeds, free_bytes


def sampled(
    precision: Precision, task: Task, *, positions: int, patches: int, free_bytes: int | None
) -> SampledTimes | None:
    """The times of a few layers of the model's shape; None, with a note, where they cannot be had."""
    with held_interrupts():
        from phiedge.engines.onnxruntime.sample.sampling import ModelSample, can_sample, sample_bytes
        from phiedge.engines.threads import default_threads

    if not can_sample(precision):
        _note(f"weights of {precision.decoder} are not sampled on a processor")
        return None
    needed_bytes = sample_bytes(task.facts, precision)
    if free_bytes is not None and needed_bytes > free_bytes:
        _note(f"a sample of the model takes {needed_bytes / 1e9:.1f} GB, {free_bytes / 1e9:.1f} GB are free")
        return None
    sample = ModelSample(task.facts, precision, positions=positions, patches=patches, threads=default_threads())
    return sample.times(terminal_progress())


def _tell_if_busy(machine: Host) -> None:
    if machine.load_average_1m > _BUSY * machine.cores:
        print(
            f"note: this machine is busy (load {machine.load_average_1m:.1f} on {machine.cores} processors), "
            "and is planned for as it is now; ask again when it is idle",
            file=sys.stderr,
        )


def _note(why: str) -> None:
    print(f"note: planned by shares of this machine's limits, as {why}", file=sys.stderr)
