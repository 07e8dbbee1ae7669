"""Choosing the next token: greedy, or temperature and top-p with a seed.

All working memory is made with the sampler, so that a step over a vocabulary of a hundred thousand tokens allocates
little and nothing that grows with the answer.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phiedge.errors import SessionError, UsageError

Logits = npt.NDArray[np.float32]

_COLDEST, _HOTTEST = 0.01, 100.0  # beyond, float32 weights are all zero or all one


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to choose: `temperature` 0 is greedy, and then `top_p` and `seed` would have no effect and are refused."""

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
        if self.temperature == 0.0 and (self.top_p != 1.0 or self.seed is not None):
            given = "top_p" if self.top_p != 1.0 else "seed"
            raise UsageError(f"{given} has no effect at temperature 0", remedy="give a temperature, such as 0.8")


class Sampler:
    """Chooses tokens from logits over a vocabulary of `vocab_size`; `start` it for every request."""

    def __init__(self, vocab_size: int) -> None:
        self._weights = np.empty(vocab_size, dtype=np.float32)
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
        if not np.isfinite(top):  # argmax returns the first NaN, so this one value speaks for all
            raise SessionError(f"the model gave {top} as the highest logit", remedy="check the bundle: phiedge verify")
        if self._sampling.temperature == 0.0:
            return best
        return self._draw(logits, top)

    def _draw(self, logits: Logits, top: float) -> int:
        weights, sampling = self._weights, self._sampling
        np.subtract(logits, np.float32(top), out=weights)
        np.divide(weights, np.float32(sampling.temperature), out=weights)
        np.exp(weights, out=weights)
        if sampling.top_p == 1.0:
            return self._pick(np.cumsum(weights, dtype=np.float64))
        # Tokens below this weight hold less than 1 - top_p together, so the nucleus is complete without them.
        total = float(weights.sum(dtype=np.float64))
        floor = (1.0 - sampling.top_p) * total / weights.size
        candidates = np.flatnonzero(weights >= floor)
        candidates = candidates[np.argsort(-weights[candidates], kind="stable")]
        cumulative = np.cumsum(weights[candidates], dtype=np.float64)
        nucleus = int(np.searchsorted(cumulative, sampling.top_p * total)) + 1
        return int(candidates[self._pick(cumulative[:nucleus])])

    def _pick(self, cumulative: npt.NDArray[np.float64]) -> int:
        """A place drawn in proportion to the steps of `cumulative`; places with no weight are never drawn."""
        drawn = int(np.searchsorted(cumulative, self._random.random() * cumulative[-1], side="right"))
        return min(drawn, cumulative.size - 1)
