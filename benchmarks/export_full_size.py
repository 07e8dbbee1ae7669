"""What an export of the whole 15B costs, beside what the disk and the arithmetic allow at best.

    python -m benchmarks.random_checkpoint DIRECTORY
    python -m benchmarks.export_full_size --checkpoint DIRECTORY --work DIRECTORY [--target cpu] [--keep]

The limits are measured in the same run: the disk by reading and writing files of its own before and after the export,
with the page cache out of the way, and the arithmetic by quantising a sample of weights that lies in memory, on all
cores at once, with nothing else to do. The export runs in a process of its own, whose peak the kernel counts. The
checkpoint is dropped from the page cache before, so that every byte of it comes from the disk.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.record import add_options, publish

READ_SAMPLE_BYTES, WRITE_SAMPLE_BYTES = 256 << 20, 2 << 30  # of each shard; of one file
STEP_BYTES = 8 << 20
SAMPLE_ROWS, SAMPLE_COLUMNS = 4096, 5120
SAMPLE_PASSES = 8


class Phases:
    """Seconds of each task, as a progress: what it shows is when tasks begin and end."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def task(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        begun_ns = time.perf_counter_ns()
        try:
            yield lambda count: None
        finally:
            self.seconds[name] = round((time.perf_counter_ns() - begun_ns) / 1e9, 2)


def work(checkpoint: str, bundle: str, target: str) -> None:
    """The export, in a process of its own; prints what it found about itself."""
    begun_ns = time.perf_counter_ns()
    from phiedge.pipeline import export

    imported_ns = time.perf_counter_ns()
    phases = Phases()
    made = export(checkpoint, target=target, output=Path(bundle), progress=phases)
    ended_ns = time.perf_counter_ns()
    usage = os.times()
    counted = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="utf-8").splitlines())
    found = {
        "import_s": round((imported_ns - begun_ns) / 1e9, 2),
        "export_s": round((ended_ns - imported_ns) / 1e9, 2),
        "phases_s": phases.seconds,
        "cpu_user_s": round(usage.user, 1),
        "cpu_system_s": round(usage.system, 1),
        "peak_rss_bytes": machine.peak_rss_bytes(),
        "read_bytes": int(counted["read_bytes"]),
        "written_bytes": int(counted["write_bytes"]),
        "bundle_bytes": sum(entry.bytes for entry in made.manifest.files.values()),
        "int4_weights": json.loads((made.path / "quantization.json").read_bytes())["totals"]["weights"],
    }
    print(json.dumps(found))


def forget(path: Path) -> None:
    """Drop a file from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_gbps(shards: Sequence[Path], place: float) -> float:
    """How fast the shards come from the disk: a part of each, at `place` of its length, read in order."""
    buffer = memoryview(bytearray(STEP_BYTES))
    read_bytes = took_ns = 0
    for shard in shards:
        forget(shard)
        with shard.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            file.seek(int(place * shard.stat().st_size))
            begun_ns = time.perf_counter_ns()
            for _ in range(READ_SAMPLE_BYTES // STEP_BYTES):
                read_bytes += file.readinto(buffer) or 0
            took_ns += time.perf_counter_ns() - begun_ns
        forget(shard)
    return read_bytes / took_ns


def write_gbps(directory: Path, sample_bytes: int) -> float:
    """How fast the disk takes a new file, until it has all of it."""
    path = directory / "disk-sample"
    block = np.random.default_rng(0).bytes(STEP_BYTES)
    begun_ns = time.perf_counter_ns()
    with path.open("wb", buffering=0) as file:
        for index in range(sample_bytes // STEP_BYTES):
            file.write(block)
            if index % 16 == 15:
                os.fdatasync(file.fileno())
        os.fsync(file.fileno())
    took_ns = time.perf_counter_ns() - begun_ns
    path.unlink()
    return sample_bytes / took_ns


def quantise_weights_per_s(threads: int) -> float:
    """int4 weights per second of the quantiser alone, from memory, all threads together."""
    from phiedge.calibration.int4 import RoundToNearest
    from phiedge.exporters.values import StoredRows

    values = np.random.default_rng(0).standard_normal((SAMPLE_ROWS, SAMPLE_COLUMNS), dtype=np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    sample = StoredRows(name="sample", dtype="bfloat16", first_row=0, values=bits)
    quantiser = RoundToNearest()

    def passes() -> None:
        for _ in range(SAMPLE_PASSES):
            quantiser.quantise(sample, bits=4, group_size=32)

    quantiser.quantise(sample, bits=4, group_size=32)
    workers = [threading.Thread(target=passes) for _ in range(threads)]
    begun_ns = time.perf_counter_ns()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return threads * SAMPLE_PASSES * bits.size / ((time.perf_counter_ns() - begun_ns) / 1e9)


def measure(checkpoint: Path, directory: Path, target: str) -> dict[str, object]:
    """One export between two measurements of the disk."""
    shards = sorted(checkpoint.glob("*.safetensors"))
    for shard in shards:
        forget(shard)
    threads = len(os.sched_getaffinity(0))
    weights_per_s = quantise_weights_per_s(threads)
    disk = [(read_gbps(shards, 0.3), write_gbps(directory, WRITE_SAMPLE_BYTES))]
    bundle = directory / "bundle"
    command = [sys.executable, "-m", "benchmarks.export_full_size", "--checkpoint", str(checkpoint)]
    command += ["--work", str(bundle), "--target", target, "--as-worker"]
    begun_ns = time.perf_counter_ns()
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    wall_s = (time.perf_counter_ns() - begun_ns) / 1e9
    disk.append((read_gbps(shards, 0.6), write_gbps(directory, WRITE_SAMPLE_BYTES)))
    found: dict[str, float] = json.loads(finished.stdout)
    reading_gbps, writing_gbps = (sum(rates) / len(rates) for rates in zip(*disk, strict=True))
    source_bytes = sum(shard.stat().st_size for shard in shards)
    limits = {
        "disk_s": source_bytes / 1e9 / reading_gbps + found["bundle_bytes"] / 1e9 / writing_gbps,
        "quantise_s": found["int4_weights"] / weights_per_s,
    }
    return {
        "wall_s": round(wall_s, 1),
        **found,
        "source_bytes": source_bytes,
        "disk_read_gbps": [round(read, 2) for read, _ in disk],
        "disk_write_gbps": [round(written, 3) for _, written in disk],
        "quantise_gweights_per_s": round(weights_per_s / 1e9, 3),
        "limits_s": {name: round(seconds, 1) for name, seconds in limits.items()},
        "times_the_larger_limit": round(wall_s / max(limits.values()), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the export of the full-size model.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="where the bundle is written; the same disk")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--as-worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--keep-bundle", action="store_true", help="leave the bundle in WORK/bundle")
    add_options(parser)
    options = parser.parse_args()
    if options.as_worker:
        work(str(options.checkpoint), str(options.work), options.target)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    found = measure(options.checkpoint, options.work, options.target)
    if not options.keep_bundle:
        shutil.rmtree(options.work / "bundle")
    publish("export-full-size", {"target": options.target}, found, keep=options.keep)


if __name__ == "__main__":
    main()
