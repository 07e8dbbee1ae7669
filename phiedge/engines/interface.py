"""What the runtime asks of an engine, whatever library computes.

The decoder engine owns the cache of keys and values, on the host or on a device. The runtime only knows how many of its
positions mean something, and says so with every run (`past`). Positions from `past` on are overwritten, so going back
to an earlier length costs nothing. `stop` may be called from any thread, all else from one at a time.
"""

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


class RunStoppedError(Exception):
    """A run ended early because `stop` was called from another thread. Internal: the session turns it into a result."""


class VisionEngine(Protocol):
    """One picture at a time, of any number of patches."""

    @property
    def input_dtype(self) -> np.dtype[Any]:
        """The type that patches and positions come in."""
        ...

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """The type of features."""
        ...

    def encode(self, patches: Array, positions: Array, out: Array) -> None:
        """`patches [n, patch values]` and `positions [n, channels]` to features, written into `out [n, hidden]`.

        Raises `RunStoppedError` after `stop`, and `SessionError` if it fails.
        """
        ...

    def stop(self) -> None:
        """End a run in progress, and every later one until `rearm`."""
        ...

    def rearm(self) -> None:
        """Allow runs again."""
        ...


class DecoderEngine(Protocol):
    """Rows of embeddings to the logits of the last row, with a cache of `capacity` positions."""

    @property
    def input_dtype(self) -> np.dtype[Any]:
        """The type of embeddings."""
        ...

    @property
    def capacity(self) -> int:
        """How many positions the cache holds."""
        ...

    @property
    def cache_bytes(self) -> int:
        """What the cache takes, on the host or on the device."""
        ...

    @property
    def run_ns(self) -> int:
        """How long the library computed in the last run, in nanoseconds; the rest of the call is our own overhead."""
        ...

    @property
    def row(self) -> Array:
        """Where the embedding of the next step goes, `[hidden]`; always the same memory of the host."""
        ...

    def prefill(self, embeddings: Array, *, past: int) -> Array:
        """Run `embeddings [t, hidden]` after `past` positions; returns the float32 logits `[vocab]` of the last one.

        The returned array is overwritten by the next run. Raises as `VisionEngine.encode`.
        """
        ...

    def step(self, *, past: int) -> Array:
        """Run the one embedding in `row` after `past` positions; returns and raises as `prefill` does."""
        ...

    def assume(self, length: int) -> None:
        """Take the first `length` positions of the cache as written, whatever they hold: for measuring there."""
        ...

    def stop(self) -> None:
        """As of the vision engine."""
        ...

    def rearm(self) -> None:
        """Allow runs again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """The two engines of an open bundle and the name of the backend that they are of."""

    backend: str
    vision: VisionEngine
    decoder: DecoderEngine
