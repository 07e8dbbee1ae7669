"""How long each part of a request takes on one device: what it takes usually, and what it seldom exceeds.

A part's usual time is linear in a few features of its size, with coefficients that are never negative, so that nothing
larger is ever predicted to be faster. How far samples lie above it is one number, the excess: relative to the usual
time plus a fixed scale, as a disturbance lasts as long in a short part as in a long one.

    usual(x) = c0 + c1 x1 + ...
    high(x)  = usual(x) + excess (usual(x) + scale)

`excess` is an upper bound, with `confidence`, on the `quantile` of what was measured: an order statistic, which takes
nothing for granted about the shape of the tail (`profile/fitting.py`). Where there were too few samples for a high
quantile, the model says a lower one instead of guessing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from phiedge.errors import BundleError

RUN_TOKENS = 16
"""How many tokens are measured together for the spread of many."""

_HALVINGS, _CHUNK_COST = 3, 1.02
"""How often a chunk may be halved, and what its prompt may cost more for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartModel:
    """One part of a request; all times in milliseconds. `quantile` 0 means that one sample was all there is."""

    coefficients: tuple[float, ...]
    scale_ms: float
    excess: float
    quantile: float
    confidence: float
    samples: int

    def __post_init__(self) -> None:
        values = (*self.coefficients, self.scale_ms, self.excess)
        if not all(0 <= value < float("inf") for value in values) or not 0 <= self.quantile < 1:
            raise BundleError(
                "a latency model has a coefficient that is negative or no number", remedy="measure it again"
            )

    def usual_ms(self, features: Sequence[float]) -> float:
        """What a part with these features takes usually."""
        return sum(map(float.__mul__, map(float, self.coefficients), map(float, features)))

    def high_ms(self, features: Sequence[float]) -> float:
        """What a part with these features seldom exceeds."""
        usual_ms = self.usual_ms(features)
        return usual_ms + self.excess * (usual_ms + self.scale_ms)

    def slowed(self, factor: float) -> "PartModel":
        """The same part where everything takes `factor` times as long."""
        coefficients = tuple(factor * value for value in self.coefficients)
        return replace(self, coefficients=coefficients, scale_ms=factor * self.scale_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A part's time in milliseconds: what it takes usually, and by how much it seldom exceeds that."""

    usual_ms: float
    excess_ms: float

    @property
    def high_ms(self) -> float:
        """What it seldom exceeds."""
        return self.usual_ms + self.excess_ms

    def times(self, factor: float) -> "Estimate":
        """The same where everything takes `factor` times as long."""
        return Estimate(usual_ms=factor * self.usual_ms, excess_ms=factor * self.excess_ms)

    def __add__(self, other: "Estimate") -> "Estimate":
        """Both parts, one after the other.

        Their excesses add as independent ones do, by their squares: that every part meets its worst in one request
        happens, but not as seldom as each does alone. How well that holds is measured on whole requests.
        """
        return Estimate(usual_ms=self.usual_ms + other.usual_ms, excess_ms=math.hypot(self.excess_ms, other.excess_ms))


NOTHING = Estimate(usual_ms=0.0, excess_ms=0.0)


def decoding_features(pixels: int) -> tuple[float, ...]:
    """Of reading an encoded picture."""
    return (1.0, float(pixels))


def fitting_features(pixels: int, patches: int) -> tuple[float, ...]:
    """Of bringing pixels to a grid of patches."""
    return (1.0, float(pixels), float(patches))


def position_features(patches: int) -> tuple[float, ...]:
    """Of interpolating the position table for a grid that was not used before."""
    return (1.0, float(patches))


def vision_features(patches: int) -> tuple[float, ...]:
    """Of one picture through the encoder, whose attention is quadratic."""
    return (1.0, float(patches), float(patches) ** 2)


def chunk_features(tokens: int, past: int) -> tuple[float, ...]:
    """Of a chunk of the prompt after `past` positions."""
    count, before = float(tokens), float(past)
    return (1.0, count, count * count, before, count * before)


def step_features(context: int) -> tuple[float, ...]:
    """Of one token over `context` positions, itself included."""
    return (1.0, float(context))


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyModel:
    """Every part of a request on one device, for one backend.

    `request_ms` is what a request takes besides its parts. `step` is one token, all of the host's work on it included;
    `run_excess` is the excess of `RUN_TOKENS` together, which is smaller, at `run_quantile`. `joint` is how many times
    the excess of their parts whole requests seldom exceed, at `joint_quantile`. `abort_usual_ms` is what an engine
    usually goes on for after it was told to stop, `abort_ms` the longest that was seen. `load_ms` is what opening took,
    `cold_ms` by how much the first request took longer than it would later.
    """

    chunk_tokens: int
    request_ms: float
    decoding: PartModel
    fitting: PartModel
    positions: PartModel
    vision: PartModel
    chunk: PartModel
    step: PartModel
    run_excess: float
    run_quantile: float
    joint: float
    joint_quantile: float
    abort_usual_ms: float
    abort_ms: float
    load_ms: float
    cold_ms: float

    def __post_init__(self) -> None:
        if not 0 < self.joint < float("inf"):
            raise BundleError(
                f"a latency model allows whole requests {self.joint} times the excess of their parts",
                remedy="measure it again",
            )

    def picture(self, *, pixels: int, patches: int, encoded: bool, grid_is_known: bool) -> Estimate:
        """From a picture to its patches and their positions."""
        estimate = _estimate(self.fitting, fitting_features(pixels, patches))
        if encoded:
            estimate += _estimate(self.decoding, decoding_features(pixels))
        if not grid_is_known:
            estimate += _estimate(self.positions, position_features(patches))
        return estimate

    def encoding(self, patches: int) -> Estimate:
        """One picture's patches to features."""
        return _estimate(self.vision, vision_features(patches))

    def prefill_chunk(self, tokens: int, past: int) -> Estimate:
        """One chunk of the prompt."""
        return _estimate(self.chunk, chunk_features(tokens, past))

    def prefill(self, length: int, *, past: int = 0, chunk_tokens: int | None = None) -> Estimate:
        """A prompt of `length` rows from row `past` on, in chunks."""
        most, chunk = chunk_tokens or self.chunk_tokens, self.chunk
        usual_ms = squared = 0.0
        for start in range(past, length, most):
            each_ms = chunk.usual_ms(chunk_features(min(most, length - start), start))
            usual_ms += each_ms
            squared += (chunk.excess * (each_ms + chunk.scale_ms)) ** 2
        return Estimate(usual_ms=usual_ms, excess_ms=math.sqrt(squared))

    def best_chunk(self, length: int) -> int:
        """The chunks for a prompt of `length` rows: as small as hardly costs anything.

        Between two chunks the clock is read, and an engine that goes on after it was told to stop does so to the end of
        its chunk. None is smaller than what was measured.
        """
        sizes = [self.chunk_tokens >> halvings for halvings in range(_HALVINGS + 1)]
        usual_ms = {size: self.prefill(length, chunk_tokens=size).usual_ms for size in sizes if size >= 1}
        worth_ms = _CHUNK_COST * min(usual_ms.values())
        return min(size for size, ms in usual_ms.items() if ms <= worth_ms)

    def around(self) -> Estimate:
        """What a request takes besides its parts."""
        return Estimate(usual_ms=self.request_ms, excess_ms=0.0)

    def one_step(self, context: int) -> Estimate:
        """One token over `context` positions, itself included."""
        return _estimate(self.step, step_features(context))

    def steps(self, count: int, context: int) -> Estimate:
        """`count` tokens, the first over `context` positions."""
        if count <= 0:
            return NOTHING
        fixed_ms, each_ms = self.step.coefficients
        each = fixed_ms + each_ms * (context + (count - 1) / 2)
        usual_ms = count * each
        # What disturbs few tokens is as long as what disturbs many: a pause does not know how many there are.
        run_ms = self.run_excess * max(count, RUN_TOKENS) * each
        excess_ms = min(run_ms, count * self.one_step(context + count - 1).excess_ms)
        return Estimate(usual_ms=usual_ms, excess_ms=excess_ms)

    def together(self, parts: Estimate) -> Estimate:
        """Parts of one request as a whole, whose excess was measured on whole requests."""
        return replace(parts, excess_ms=self.joint * parts.excess_ms)

    def slowed(self, factor: float) -> "LatencyModel":
        """The same device where everything takes `factor` times as long."""
        return replace(
            self,
            request_ms=factor * self.request_ms,
            decoding=self.decoding.slowed(factor),
            fitting=self.fitting.slowed(factor),
            positions=self.positions.slowed(factor),
            vision=self.vision.slowed(factor),
            chunk=self.chunk.slowed(factor),
            step=self.step.slowed(factor),
        )

    @property
    def quantile(self) -> float:
        """The lowest of the quantiles that the high times of engine parts stand for."""
        return min(self.vision.quantile, self.chunk.quantile, self.step.quantile)


def _estimate(part: PartModel, features: Sequence[float]) -> Estimate:
    usual_ms = part.usual_ms(features)
    return Estimate(usual_ms=usual_ms, excess_ms=part.high_ms(features) - usual_ms)
