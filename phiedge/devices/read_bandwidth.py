"""How fast this machine reads memory: the roof of every decode step.

Each thread reduces an array of its own with numpy, which releases the interpreter's lock meanwhile. Several reductions
are tried, because not every one keeps up with memory. The arrays are far larger than any cache. What is measured is
what the threads of a process reach together, not what the memory modules promise.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from phiedge.devices.host import available_memory_bytes, last_level_cache_bytes

DEFAULT_BYTES = 2**30
_LEAST_BYTES = 2**26
_OVER_CACHE = 4  # how many times larger than the last cache the arrays are
_LEAST_ROUNDS = 3
_SHARE_OF_MEMORY = 8  # never more than one part in so many of the memory that is free

REDUCTIONS: Mapping[str, Callable[[npt.NDArray[Any]], object]] = {
    "sum of float32": lambda block: np.add.reduce(block),
    "max of int64": lambda block: np.maximum.reduce(block.view(np.int64)),
    "or of uint64": lambda block: np.bitwise_or.reduce(block.view(np.uint64)),
}


def read_gbps(
    *,
    threads: int,
    size_bytes: int | None = None,
    seconds: float = 1.0,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, list[float]]:
    """Rates in GB/s by reduction, one for each pass through `size_bytes`, shared out among `threads`.

    Passes are made for about `seconds`, and at least three.
    """
    assert threads >= 1
    length = (size_bytes or suitable_bytes()) // 4 // threads // 16 * 16
    blocks = [np.ones(length, dtype=np.float32) for _ in range(threads)]  # ones: untouched pages would all be one page
    read_bytes = sum(block.nbytes for block in blocks)
    rates: dict[str, list[float]] = {name: [] for name in REDUCTIONS}
    with ThreadPoolExecutor(threads) as pool:
        until_ns = clock_ns() + int(seconds * 1e9)
        while len(rates[next(iter(rates))]) < _LEAST_ROUNDS or clock_ns() < until_ns:
            for name, reduce in REDUCTIONS.items():
                begun_ns = clock_ns()
                list(pool.map(reduce, blocks))
                rates[name].append(read_bytes / (clock_ns() - begun_ns))
    return rates


def suitable_bytes() -> int:
    """Enough to be far larger than the caches, and little beside the memory that is free."""
    wanted = max(DEFAULT_BYTES, _OVER_CACHE * (last_level_cache_bytes() or 0))
    free = available_memory_bytes()
    return wanted if free is None else max(_LEAST_BYTES, min(wanted, free // _SHARE_OF_MEMORY))
