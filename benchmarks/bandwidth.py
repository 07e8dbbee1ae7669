"""How fast this machine reads memory: the roof of every decode step.

    python -m benchmarks.bandwidth [--threads 2] [--gib 1.0] [--seconds 2] [--keep]

What measures is `phiedge.devices.read_bandwidth`, which `phiedge bench` uses as well.
"""

import argparse
from collections.abc import Mapping

from benchmarks.record import add_options, publish, summary
from phiedge.devices.read_bandwidth import read_gbps


def measure(*, threads: int, gib: float = 1.0, seconds: float = 1.0) -> dict[str, dict[str, float | int]]:
    """Read rates in GB/s by reduction, over passes through `gib` GiB shared out among the threads."""
    rates = read_gbps(threads=threads, size_bytes=int(gib * 2**30), seconds=seconds)
    return {name: summary(samples) for name, samples in rates.items()}


def best(rates: Mapping[str, Mapping[str, float | int]]) -> float:
    """The bandwidth in GB/s: the median of the reduction that is fastest."""
    return max(float(rate["median"]) for rate in rates.values())


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the read bandwidth of memory.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gib", type=float, default=1.0, help="how much is read in one pass")
    parser.add_argument("--seconds", type=float, default=2.0)
    add_options(parser)
    options = parser.parse_args()
    rates = measure(threads=options.threads, gib=options.gib, seconds=options.seconds)
    settings = {"threads": options.threads, "gib": options.gib, "seconds": options.seconds}
    publish("bandwidth", settings, {"read_gbps": best(rates), "by_reduction_gbps": rates}, keep=options.keep)


if __name__ == "__main__":
    main()
