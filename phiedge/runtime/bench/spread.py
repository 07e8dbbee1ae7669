"""How measured times spread: what happens usually, and how bad it gets.

A percentile needs samples: the 99th of fewer than a hundred would be the largest under another name, and is left out.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

P99_NEEDS = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """`p50` is the median, `p99` the least value that 99 % do not exceed, or None for fewer than 100 samples."""

    count: int
    least: float
    p50: float
    p99: float | None
    most: float

    @staticmethod
    def of(samples: Sequence[float]) -> "Spread":
        """The spread of at least one sample, in its own unit."""
        assert samples
        ordered = sorted(samples)
        count = len(ordered)
        return Spread(
            count=count,
            least=ordered[0],
            p50=statistics.median(ordered),
            p99=ordered[math.ceil(0.99 * count) - 1] if count >= P99_NEEDS else None,
            most=ordered[-1],
        )


def repeat(run: Callable[[], T], *, at_least: int, at_most: int, until_ns: int, clock_ns: Callable[[], int]) -> list[T]:
    """What `run` gave, from as many calls as end before `until_ns` if each lasts as long as the one before."""
    assert at_least >= 1
    found: list[T] = []
    last_ns = 0
    while len(found) < at_least or (len(found) < at_most and clock_ns() + last_ns <= until_ns):
        begun_ns = clock_ns()
        found.append(run())
        last_ns = clock_ns() - begun_ns
    return found
