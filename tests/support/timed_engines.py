"""Engines that compute nothing and take logical time: they move a clock on, and say the tokens that they were given.

No test that uses them waits for anything.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from typing import Any

import numpy as np

from phiedge.engines.interface import Engines, RunStoppedError
from phiedge.runtime.latency_model import LatencyModel, PartModel

FILLER = 20  # a token of plain text
MS = 1_000_000


class LogicalClock:
    """A clock that stands still until it is moved on."""

    def __init__(self) -> None:
        self.now_ns = 5_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def pass_ms(self, ms: float) -> None:
        self.now_ns += int(ms * MS)


def part(*coefficients: float, excess: float = 0.0) -> PartModel:
    return PartModel(
        coefficients=coefficients, scale_ms=0.0, excess=excess, quantile=0.99, confidence=0.95, samples=300
    )


VISION_MS, PREFILL_MS, STEP_MS = 0.1, 0.5, 10.0
"""What the engines take: for a patch, for a row of the prompt, for a token."""


def latency_model(*, chunk_tokens: int = 16, excess: float = 0.0) -> LatencyModel:
    """The model that tells exactly what the engines take."""
    return LatencyModel(
        chunk_tokens=chunk_tokens,
        request_ms=0.0,
        decoding=part(0.0, 0.0),
        fitting=part(0.0, 0.0, 0.0),
        positions=part(0.0, 0.0),
        vision=part(0.0, VISION_MS, 0.0, excess=excess),
        chunk=part(0.0, PREFILL_MS, 0.0, 0.0, 0.0, excess=excess),
        step=part(STEP_MS, 0.0, excess=excess),
        run_excess=excess,
        run_quantile=0.99,
        joint=1.0,
        joint_quantile=0.99,
        abort_usual_ms=0.0,
        abort_ms=1.0,
        load_ms=100.0,
        cold_ms=0.0,
    )


class TimedEngine:
    """Moves the clock on for everything it does, and does nothing."""

    def __init__(self, clock: LogicalClock, hidden: int, vocab: int) -> None:
        self.input_dtype = self.output_dtype = np.dtype(np.float32)
        self.row = np.zeros(hidden, np.float32)
        self.capacity, self.cache_bytes, self.run_ns = 4096, 0, 0
        self.calls: list[str] = []
        self.says: Iterator[int] = repeat(FILLER)
        self.before_step: Callable[[int], None] = lambda past: None
        self.before_chunk: Callable[[], None] = lambda: None
        self.stopped = False
        self._clock, self._logits = clock, np.zeros(vocab, np.float32)

    def say(self, tokens: Iterable[int]) -> None:
        """Make these the likeliest tokens, one after each run of the decoder, and then only filler."""
        self.says = chain(tokens, repeat(FILLER))

    def encode(self, patches: Any, positions: Any, out: Any) -> None:
        self._call("vision")
        self._clock.pass_ms(VISION_MS * len(patches))

    def prefill(self, embeddings: Any, *, past: int) -> Any:
        self._call("chunk")
        self.before_chunk()
        self._clock.pass_ms(PREFILL_MS * len(embeddings))
        return self._next()

    def step(self, *, past: int) -> Any:
        self._call("step")
        self.before_step(past)
        if self.stopped:
            raise RunStoppedError
        self._clock.pass_ms(STEP_MS)
        return self._next()

    def assume(self, length: int) -> None:
        pass

    def stop(self) -> None:
        self.stopped = True

    def rearm(self) -> None:
        self.stopped = False

    def _call(self, name: str) -> None:
        if self.stopped:
            raise RunStoppedError
        self.calls.append(name)

    def _next(self) -> Any:
        self._logits[:] = 0
        self._logits[next(self.says)] = 1
        return self._logits


def timed_engines(clock: LogicalClock, *, hidden: int, vocab: int) -> tuple[Engines, TimedEngine]:
    """Both engines in one."""
    engine = TimedEngine(clock, hidden, vocab)
    return Engines(backend="stand-in", vision=engine, decoder=engine), engine
