"""What a spec asks of the machine while it is measured, as values that check themselves."""

import math
from dataclasses import dataclass, fields

from phiedge.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Preconditions:
    """What must hold of the machine while it is measured; None asks nothing. If it does not, nothing is proven.

    What is asked for and the machine does not tell does not hold either.
    """

    foreign_cpu_share_max: float | None = None
    swap_in_pages_max: int | None = None
    memory_available_bytes_min: int | None = None
    power_mode: str | None = None
    core_mhz_min: float | None = None
    gpu_mhz_min: float | None = None
    memory_mhz_min: float | None = None
    clock_shift_max: float | None = None
    celsius_start_max: float | None = None
    celsius_max: float | None = None
    watts_max: float | None = None
    throttled_samples_max: int | None = None
    over_current_events_max: int | None = None

    def __post_init__(self) -> None:
        for name in ("foreign_cpu_share_max", "clock_shift_max"):
            share = getattr(self, name)
            if share is not None and not 0.0 <= share <= 1.0:
                raise UsageError(f"{name} must lie between 0 and 1, not {share:g}")
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if isinstance(value, int | float) and not (math.isfinite(value) and (value >= 0 or "celsius" in name)):
                raise UsageError(f"{name} must be 0 or more, not {value}")
        if self.power_mode is not None and not self.power_mode.strip():
            raise UsageError("power_mode must be the name of a mode", remedy='as nvpmodel has it: power_mode = "MAXN"')

    @property
    def sensed(self) -> bool:
        """Whether something is asked that only sensors tell."""
        return any(
            getattr(self, field.name) is not None
            for field in fields(self)
            if field.name not in ("foreign_cpu_share_max", "swap_in_pages_max", "memory_available_bytes_min")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CoLoad:
    """What else works while it is measured.

    `cpu_threads` processes compute without end; `memory_threads` more copy memory, together at `memory_gbps` (bytes
    read and written), or as fast as they can where that is None.
    """

    cpu_threads: int = 0
    memory_threads: int = 0
    memory_gbps: float | None = None

    def __post_init__(self) -> None:
        for name in ("cpu_threads", "memory_threads"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must be 0 or more, not {getattr(self, name)}")
        if self.memory_gbps is not None:
            if not (math.isfinite(self.memory_gbps) and self.memory_gbps > 0):
                raise UsageError(f"memory_gbps must be a positive number, not {self.memory_gbps}")
            if not self.memory_threads:
                raise UsageError("memory_gbps needs somebody to copy", remedy="give memory_threads = 1, or more")
