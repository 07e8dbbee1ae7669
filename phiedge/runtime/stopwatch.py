"""Where the time of one request went, in integer nanoseconds of the monotonic clock."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from phiedge.runtime.result import Timings

Phase: TypeAlias = Literal["preprocess", "vision", "prefill"]


class Stopwatch:
    """Starts when it is made. Phases add up; the first token and the end are moments."""

    def __init__(self, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock_ns = clock_ns
        self.started_ns = clock_ns()
        self._phases_ns: dict[Phase, int] = {"preprocess": 0, "vision": 0, "prefill": 0}
        self._first_token_ns: int | None = None

    @contextmanager
    def measure(self, phase: Phase) -> Iterator[None]:
        """Add the time of the block to `phase`, also when it is left by an error."""
        begun_ns = self._clock_ns()
        try:
            yield
        finally:
            self._phases_ns[phase] += self._clock_ns() - begun_ns

    def mark_first_token(self) -> None:
        """The first token is chosen now."""
        self._first_token_ns = self._clock_ns()

    @property
    def first_token_ms(self) -> float | None:
        """From the start to the first token, None if there was none yet."""
        return None if self._first_token_ns is None else _ms(self._first_token_ns - self.started_ns)

    def timings(self, *, load_ns: int) -> Timings:
        """The record of a request that ends now."""
        ended_ns = self._clock_ns()
        first_ns = self._first_token_ns
        return Timings(
            load=_ms(load_ns),
            **{phase: _ms(spent_ns) for phase, spent_ns in self._phases_ns.items()},
            first_token=None if first_ns is None else _ms(first_ns - self.started_ns),
            decode=0.0 if first_ns is None else _ms(ended_ns - first_ns),
            total=_ms(ended_ns - self.started_ns),
        )


def _ms(duration_ns: int) -> float:
    return duration_ns / 1e6
