"""Which tokens a grammar allows next, laid over the scores of a model, in memory that is made once."""

from typing import Any

import numpy as np

from phiedge.runtime.sampling import Logits

_BITS = 32


class Mask:
    """For a vocabulary of `vocab_size`."""

    def __init__(self, vocab_size: int) -> None:
        self._words = np.zeros(-(-vocab_size // _BITS), dtype=np.int32)
        self._bytes = self._words.view(np.uint8)
        self._place, self._size = self._words.ctypes.data, self._words.nbytes
        # What each byte of the mask adds to its eight scores, lowest bit first.
        bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
        self._added = np.where(bits, np.float32(0), np.float32(-np.inf)).astype(np.float32)
        self._places = np.zeros(self._bytes.size, dtype=np.intp)
        spread = np.zeros((self._bytes.size, 8), dtype=np.float32)
        self._spread, self._penalty = spread, spread.reshape(-1)[:vocab_size]
        self._scores = np.zeros(vocab_size, dtype=np.float32)
        self.nothing = np.zeros(vocab_size, dtype=np.float32)
        """The scores of a model that likes everything as much."""

    def over(self, logits: Logits, matcher: Any) -> Logits:
        """`logits` with minus infinity where `matcher` allows no token; the same memory with every call."""
        matcher.unsafe_compute_mask_ptr(self._place, self._size)
        np.copyto(self._places, self._bytes)  # `take` would make places of another type anew every time
        np.take(self._added, self._places, axis=0, out=self._spread, mode="clip")
        return np.add(logits, self._penalty, out=self._scores)
