"""How much of the engine's cache of keys and values means something.

The engine owns the memory; only positions below `length` mean anything. The length moves after an engine call has
succeeded, never before: a call that was stopped half-way leaves positions beyond the length that the next call
overwrites, so nothing has to be undone.
"""


class KVCache:
    """The committed length of a cache of `capacity` positions."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._length = 0

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def length(self) -> int:
        """The number of positions that have been committed."""
        return self._length

    def commit(self, positions: int) -> None:
        """Take `positions` more as written; call it only when the engine has returned without an error."""
        assert 0 < positions <= self._capacity - self._length
        self._length += positions

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on."""
        assert 0 <= length <= self._length
        self._length = length

    def clear(self) -> None:
        """Forget every position."""
        self._length = 0
