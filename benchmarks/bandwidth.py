"""How fast this machine reads memory: the roof of every decode step.

    python -m benchmarks.bandwidth [--threads 2] [--gib 1.0] [--keep]

Each thread reduces an array of its own with numpy, which releases the interpreter's lock meanwhile. Several reductions
are tried, because not every one keeps up with memory; the fastest is the measured bandwidth. The arrays are far larger
than any cache.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.record import add_options, publish, summary

_REDUCTIONS: dict[str, Callable[[npt.NDArray[Any]], object]] = {
    "sum of float32": lambda block: np.add.reduce(block),
    "max of int64": lambda block: np.maximum.reduce(block.view(np.int64)),
    "or of uint64": lambda block: np.bitwise_or.reduce(block.view(np.uint64)),
}


def measure(*, threads: int, gib: float, rounds: int = 9) -> dict[str, dict[str, float | int]]:
    """Read rates in GB/s by reduction, over `rounds` passes through `gib` GiB shared out among the threads."""
    length = int(gib * 2**30 / 4 / threads) // 16 * 16
    blocks = [np.ones(length, dtype=np.float32) for _ in range(threads)]
    size_bytes = sum(block.nbytes for block in blocks)
    rates: dict[str, list[float]] = {name: [] for name in _REDUCTIONS}
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            for name, reduce in _REDUCTIONS.items():
                begun_ns = time.perf_counter_ns()
                list(pool.map(reduce, blocks))
                rates[name].append(size_bytes / (time.perf_counter_ns() - begun_ns))
    return {name: summary(samples) for name, samples in rates.items()}


def best(rates: dict[str, dict[str, float | int]]) -> float:
    """The bandwidth in GB/s: the median of the reduction that is fastest."""
    return max(float(rate["median"]) for rate in rates.values())


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the read bandwidth of memory.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gib", type=float, default=1.0, help="how much is read in one pass")
    add_options(parser)
    options = parser.parse_args()
    rates = measure(threads=options.threads, gib=options.gib)
    settings = {"threads": options.threads, "gib": options.gib}
    publish("bandwidth", settings, {"read_gbps": best(rates), "by_reduction_gbps": rates}, keep=options.keep)


if __name__ == "__main__":
    main()
