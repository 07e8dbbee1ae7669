"""The key and value cache: one allocation for all layers, made when the session opens, written in place by the engine.

Only rows below `length` mean anything. The length moves after an engine call has succeeded, never before: a call that
was stopped half-way leaves rows beyond the length that the next call overwrites, so nothing has to be undone.
"""

import numpy as np
import numpy.typing as npt

from phiedge.engines.aligned import aligned_zeros
from phiedge.errors import SessionError


class KVCache:
    """Keys and values of all layers for up to `capacity` positions, `[layer, 2, 1, kv_heads, capacity, head_dim]`."""

    def __init__(self, *, layers: int, kv_heads: int, capacity: int, head_dim: int, dtype: npt.DTypeLike) -> None:
        shape = (layers, 2, 1, kv_heads, capacity, head_dim)
        size_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        try:
            self._storage = aligned_zeros(shape, dtype)
        except MemoryError as error:
            raise SessionError(
                f"the key/value cache for {capacity} positions needs {size_bytes / 1e9:.2f} GB of memory",
                remedy="open the session with a smaller max_context",
            ) from error
        self._capacity = capacity
        self._length = 0

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def length(self) -> int:
        """The number of positions that have been committed."""
        return self._length

    @property
    def size_bytes(self) -> int:
        return self._storage.nbytes

    def layer_views(self) -> list[tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]]:
        """Key and value of every layer, `[1, kv_heads, capacity, head_dim]` each: views, not copies."""
        return [(layer[0], layer[1]) for layer in self._storage]

    def commit(self, positions: int) -> None:
        """Take `positions` more rows as written; call it only when the engine has returned without an error."""
        assert 0 < positions <= self._capacity - self._length
        self._length += positions

    def clear(self) -> None:
        """Forget every position; the memory stays as it is."""
        self._length = 0
