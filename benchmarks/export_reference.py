"""What an export costs: wall time and peak memory of `phiedge export --target orin`, torch included.

    python -m benchmarks.export_reference [--target orin] [--runs 3] [--keep]

Each run is a new process that exports the reference model into a new directory; the peak is the kernel's own count of
the process's resident memory.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.record import add_options, publish, summary


def export(target: str, bundle: Path) -> tuple[float, int]:
    """Seconds and peak resident bytes of one export."""
    command = [sys.executable, "-m", "phiedge", "export", "--target", target, "-o", str(bundle)]
    begun_ns = time.perf_counter_ns()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = (time.perf_counter_ns() - begun_ns) / 1e9
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"error: {' '.join(command[1:])} ended with {process.returncode}")
    return seconds, usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the time and memory of an export of the reference model.")
    parser.add_argument("--target", default="orin")
    parser.add_argument("--runs", type=int, default=3)
    add_options(parser)
    options = parser.parse_args()
    seconds, peaks = [], []
    with tempfile.TemporaryDirectory() as directory:
        for run in range(options.runs):
            took_s, peak_bytes = export(options.target, Path(directory) / str(run))
            seconds.append(took_s)
            peaks.append(peak_bytes)
        size_bytes = sum(path.stat().st_size for path in (Path(directory) / "0").rglob("*") if path.is_file())
    found = {
        "export_s": summary(seconds, digits=2),
        "peak_rss_gib": round(max(peaks) / 2**30, 3),
        "bundle_bytes": size_bytes,
    }
    publish("export-reference", {"target": options.target, "runs": options.runs}, found, keep=options.keep)


if __name__ == "__main__":
    main()
