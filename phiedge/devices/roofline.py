"""What a machine could do at best with a piece of work: the roofline of its measured rates.

A run cannot take less time than its bytes need at the rate at which memory is read, nor less than its arithmetic needs
at the rate at which products are computed. The larger of the two is its limit; which one it is says what to improve.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from phiedge.devices.work import Work

Bound: TypeAlias = Literal["memory", "arithmetic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What the limit is made of: bytes read (10⁹ per second) and products (10⁹ operations per second).

    `weight_gops` holds for products with weights at the precision in which the engine computes them, `float_gflops` for
    those of activations.
    """

    read_gbps: float
    weight_gops: float
    float_gflops: float

    def __post_init__(self) -> None:
        assert min(self.read_gbps, self.weight_gops, self.float_gflops) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The least time that a run can take, and what sets it."""

    ms: float
    bound: Bound


def limit(work: Work, rates: Rates) -> Limit:
    """The least time for `work` in one run, in which reading and arithmetic overlap perfectly."""
    memory_ms = work.read_bytes / rates.read_gbps / 1e6
    arithmetic_ms = (work.weight_flop / rates.weight_gops + work.attention_flop / rates.float_gflops) / 1e6
    if memory_ms >= arithmetic_ms:
        return Limit(ms=memory_ms, bound="memory")
    return Limit(ms=arithmetic_ms, bound="arithmetic")


def limit_of_all(works: tuple[Work, ...], rates: Rates) -> Limit:
    """The least time for several runs, one after the other; the bound is that of the larger part."""
    limits = [limit(work, rates) for work in works]
    of_memory_ms = sum(part.ms for part in limits if part.bound == "memory")
    total_ms = sum(part.ms for part in limits)
    return Limit(ms=total_ms, bound="memory" if 2 * of_memory_ms >= total_ms else "arithmetic")
