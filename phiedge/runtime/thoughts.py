"""How long a model thinks, by the requests of a session: whether a thinking is worth to be begun.

Nothing is taken for granted about it: one model thinks for ten tokens, another for thousands.
"""

from collections import deque

REMEMBERED, KNOWN = 50, 5
_SHARE, _CLOSED = 0.9, 2


class Thoughts:
    """The lengths of the last thinkings. One that was closed counts twice as long as it was, as nobody knows."""

    def __init__(self) -> None:
        self._lengths: deque[int] = deque(maxlen=REMEMBERED)

    @property
    def usual_tokens(self) -> int | None:
        """What nine of ten were not longer than; None before there were a few."""
        if len(self._lengths) < KNOWN:
            return None
        ordered = sorted(self._lengths)
        return ordered[min(len(ordered) - 1, int(_SHARE * len(ordered)))]

    def ended(self, tokens: int, *, closed: bool) -> None:
        """A thinking came to its end after so many tokens: its own, or it was `closed`."""
        self._lengths.append(_CLOSED * tokens if closed else tokens)
