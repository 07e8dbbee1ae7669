"""Choosing the next token: greedy, or temperature and top-p with a seed.

All working memory is made with the sampler, so that a step over a vocabulary of a hundred thousand tokens allocates
little and nothing that grows with the answer.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phiedge.errors import SessionError, UsageError

Logits = npt.NDArray[np.float32]

_BLOCK = 512
_FLOORS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 0.0)
_COLDEST, _HOTTEST = 0.01, 100.0  # beyond, float32 weights are all zero or all one


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to choose: `temperature` 0 is greedy, which is the same with any `seed` and refuses a `top_p`."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.temperature != 0.0 and not _COLDEST <= self.temperature <= _HOTTEST:
            raise UsageError(
                f"temperature must be 0 (greedy) or between {_COLDEST} and {_HOTTEST}, not {self.temperature}"
            )
        if not 0.0 < self.top_p <= 1.0:
            raise UsageError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.seed is not None and self.seed < 0:
            raise UsageError(f"seed must not be negative, not {self.seed}")
        if self.temperature == 0.0 and self.top_p != 1.0:
            raise UsageError(
                f"top_p {self.top_p} has no effect at temperature 0", remedy="give a temperature, such as 0.8"
            )


class Sampler:
    """Chooses tokens from logits over a vocabulary of `vocab_size`; `start` it for every request."""

    def __init__(self, vocab_size: int) -> None:
        padded = np.zeros(-(-vocab_size // _BLOCK) * _BLOCK, dtype=np.float32)
        self._blocks = padded.reshape(-1, _BLOCK)  # the padding has no weight
        self._weights = padded[:vocab_size]
        self._sampling = Sampling()
        self._random = np.random.default_rng(0)

    def start(self, sampling: Sampling) -> None:
        """Begin a request: the same `sampling` with a seed gives the same choices again."""
        self._sampling = sampling
        if sampling.temperature > 0.0:
            self._random = np.random.default_rng(sampling.seed)

    def choose(self, logits: Logits) -> int:
        """The next token for `logits: [vocab_size]`. Raises `SessionError` if the best of them is not a number."""
        best = int(logits.argmax())
        top = float(logits[best])
        if not math.isfinite(top):  # argmax returns the first NaN, so this one value speaks for all
            raise SessionError(f"the model gave {top} as the highest logit", remedy="check the bundle: phiedge verify")
        if self._sampling.temperature == 0.0:
            return best
        np.subtract(logits, np.float32(top), out=self._weights)
        np.divide(self._weights, np.float32(self._sampling.temperature), out=self._weights)
        np.exp(self._weights, out=self._weights)
        return self._draw() if self._sampling.top_p == 1.0 else self._draw_from_nucleus()

    def _draw(self) -> int:
        """Draw from all tokens: first the block, then the token in it, as one running sum of all would be slow."""
        block_ends = np.cumsum(self._blocks.sum(axis=1), dtype=np.float64)
        target = self._random.random() * block_ends[-1]
        block = _place(block_ends, target)
        begin = block_ends[block - 1] if block else 0.0
        return block * _BLOCK + _place(np.cumsum(self._blocks[block], dtype=np.float64), target - begin)

    def _draw_from_nucleus(self) -> int:
        """Draw from the fewest tokens that have `top_p` of the probability."""
        nucleus = self._nucleus()
        ends = np.cumsum(self._weights[nucleus], dtype=np.float64)
        return int(nucleus[_place(ends, self._random.random() * ends[-1])])

    def _nucleus(self) -> npt.NDArray[np.intp]:
        """The fewest tokens that have `top_p` of the probability, by id; of equal ones at the edge, the lowest ids.

        Only weights are sorted, not ids with them, and only those that a rough first cut leaves: a flat distribution
        over a hundred thousand tokens would else take longer to sort than a step takes to compute.
        """
        weights = self._weights
        wanted = self._sampling.top_p * float(self._blocks.sum(axis=1).sum(dtype=np.float64))
        for floor in _FLOORS:  # the likeliest token has weight 1; mostly a few tokens have nearly all the weight
            likely = weights[weights >= floor]
            if likely.sum(dtype=np.float64) >= wanted:
                break
        descending = np.sort(likely)[::-1]
        size = int(np.searchsorted(np.cumsum(descending, dtype=np.float64), wanted)) + 1
        size = min(size, descending.size)
        edge = descending[size - 1]
        nucleus = np.flatnonzero(weights >= edge)
        surplus = nucleus.size - size
        return np.delete(nucleus, np.flatnonzero(weights[nucleus] == edge)[-surplus:]) if surplus else nucleus


def _place(ends: npt.NDArray[np.float64], target: float) -> int:
    """Which interval of a running sum `target` falls into; never one of no width, whatever was rounded on the way."""
    return int(np.searchsorted(ends, min(target, np.nextafter(ends[-1], 0.0)), side="right"))
