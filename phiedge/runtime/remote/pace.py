"""What a server's requests took lately: what a deadline is decided by where nothing of the machine can be measured.

A server batches, caches prefixes and has other clients, so there is no model of it here: only the slowest of the last
requests, the first token taken in proportion to a longer prompt.
"""

from collections import deque
from dataclasses import dataclass

_KEPT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    rows: int
    first_token_ms: float
    token_ms: float | None


class ServerPace:
    """The last requests, and what the next one is expected to take at worst."""

    def __init__(self) -> None:
        self._seen: deque[_Seen] = deque(maxlen=_KEPT)

    @property
    def known(self) -> bool:
        """Whether any request was seen."""
        return bool(self._seen)

    def saw(self, *, rows: int, first_token_ms: float, tokens: int, decode_ms: float) -> None:
        """Take note of a request that came to its first token."""
        each = decode_ms / (tokens - 1) if tokens > 1 else None
        self._seen.append(_Seen(rows=rows, first_token_ms=first_token_ms, token_ms=each))

    def first_token_ms(self, rows: int) -> float:
        """At worst, for a prompt of so many rows."""
        return max(seen.first_token_ms * max(1.0, rows / seen.rows) for seen in self._seen)

    def token_ms(self) -> float:
        """At worst, for one token more; 0 while none was seen."""
        return max((seen.token_ms for seen in self._seen if seen.token_ms is not None), default=0.0)
