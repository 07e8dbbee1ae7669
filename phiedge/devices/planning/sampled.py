"""Times that were sampled on a processor: a few layers of the model's shape, run there, and made up to the whole.

A processor is not planned by the efficiency of others: a model as small as a cache, a kernel that suits one width and
not another, and the cost of every operator by itself would each make a share of the roofline wrong by a factor of two.
What was sampled has all of it. Between what was sampled times are interpolated, beyond it they go on as they did.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# How far what is planned may lie from what is then measured: where the method was tried, with three models none of
# which it was fitted to (docs/decisions/0912-how-is-a-processor-planned.md), and where nobody has tried it yet.
TRIED_ERROR, UNTRIED_ERROR = 0.25, 0.5
_TRIED = {("AMD EPYC", 2)}  # processors as Linux names them, and their cores


def error_on(cpu: str, cores: int) -> float:
    """The share by which times that were sampled on this processor may be wrong."""
    return TRIED_ERROR if (cpu, cores) in _TRIED else UNTRIED_ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledTimes:
    """Milliseconds of the whole model.

    `token_ms` by the context; `chunk_ms` by the rows of a chunk without anything before it; `past_ms` is what
    positions before the largest of these chunks add to it, from 0 on; `picture_ms` by patches, and empty where no
    picture was sampled. Each may be wrong by the share `error`. `layers` of the decoder's were run for it.
    """

    token_ms: tuple[tuple[int, float], ...]
    chunk_ms: tuple[tuple[int, float], ...]
    past_ms: tuple[tuple[int, float], ...]
    picture_ms: tuple[tuple[int, float], ...]
    layers: int
    error: float

    def __post_init__(self) -> None:
        assert self.token_ms
        assert self.chunk_ms
        assert self.past_ms
        assert 0 < self.error < 1
        for knots in (self.token_ms, self.chunk_ms, self.past_ms, self.picture_ms):
            assert [at for at, _ in knots] == sorted({at for at, _ in knots})

    def token(self, context: int) -> float:
        """One token over `context` positions, itself included."""
        return interpolated(self.token_ms, context)

    def chunk(self, tokens: int, *, past: int) -> float:
        """So many rows after `past` positions."""
        full = self.chunk_ms[-1][0]
        single = (1, self.token_ms[0][1])
        return interpolated((single, *self.chunk_ms), tokens) + interpolated(self.past_ms, past) * tokens / full

    def picture(self, patches: int) -> float:
        """One picture. Its attention grows with the square, so that the time of a patch is what is interpolated."""
        each = [(count, ms / count) for count, ms in self.picture_ms]
        return interpolated(each, patches) * patches


def interpolated(knots: Sequence[tuple[int, float]], at: int) -> float:
    """On the line between the two nearest of `knots`, which ascend; of the last two beyond them; never below 0."""
    if len(knots) == 1:
        return knots[0][1]
    place = next((place for place in range(1, len(knots) - 1) if at <= knots[place][0]), len(knots) - 1)
    (low, low_ms), (high, high_ms) = knots[place - 1], knots[place]
    return max(0.0, low_ms + (high_ms - low_ms) * (at - low) / (high - low))
