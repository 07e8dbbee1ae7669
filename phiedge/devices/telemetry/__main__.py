"""The process of a sampler: `python -m phiedge.devices.telemetry FILE SECONDS [SYSROOT]`, started by `Sampler`.

It writes a sample to FILE every SECONDS until its standard input closes, and says so on stdout after the first one.
"""

import select
import sys
import time
from pathlib import Path

from phiedge.devices.probe.surfaces import surfaces_of
from phiedge.devices.telemetry.sample import take


def main(path: Path, every_seconds: float, sysroot: Path | None) -> None:
    """Sample until nobody wants it any more. A sample that comes late does not make the next ones come early."""
    surfaces = surfaces_of(sysroot)
    with path.open("w", encoding="utf-8") as file:
        print(take(surfaces).as_line(), file=file, flush=True)
        print("sampling", flush=True)
        due = time.monotonic() + every_seconds
        while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            print(take(surfaces).as_line(), file=file, flush=True)
            due = max(due + every_seconds, time.monotonic())


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
