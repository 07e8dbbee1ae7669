"""The shortest way to end an answer that is not finished: the text that a grammar still needs.

The search goes over bytes, cheapest text first. At every place it takes what the grammar forces, or tries what ends
things and one of each kind of character that is allowed; of places that look the same the cheapest one is followed.
What is found is valid, as the grammar itself accepted it; that nothing shorter exists is likely and not proven.

A closing tells apart what only ends and what would be made up. Closing a string, a list, an object, writing what the
grammar forces: that only ends what the model has said. The first digit of a number that it never came to, or one of
several words: that would be made up, so it is the model that should choose there (`made_up`).
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

END = 256  # the stop token of the vocabulary of bytes
_FEW = 12  # allowed bytes up to which every one is tried
_TEXT = 60  # allowed bytes from which on a place is in the middle of a text
_TAIL = 3  # last bytes that tell places apart where words are tried: what a word leads to can look like the rest
_QUOTE = b'"'
_PLAIN = b"0aA"  # what a text is filled with where it has to be longer
_FAMILIES = (b"0", b"123456789", b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_EMPTY = {ord('"'): ord('"'), ord("]"): ord("["), ord("}"): ord("{")}
_OPENED, _ENDED, _MARKS = b"[{", b"]}", b'[]{}",:'
# What a byte costs: one that is forced, one that ends what is open, one of several, and one that goes on all the same.
_FORCED, _ENDING, _CHOSEN, _AWAY = 0.02, 0.05, 0.2, 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """The text that ends the answer; its first `made_up` bytes have something in them that the model should choose."""

    text: bytes
    made_up: int

    def rest(self, start: int) -> "Closing":
        """What is left of it from byte `start` on."""
        return Closing(text=self.text[start:], made_up=max(0, self.made_up - start))


def ending_of(known: Closing, matcher: Any, spelled: Sequence[int], stop: int) -> Closing | None:
    """The shortest end of `known` that is valid where `matcher` stands, if one is.

    `spelled` are its bytes as tokens of the matcher's vocabulary, and `stop` is the stop token there.
    """
    tokens = [*spelled, stop]
    for start in range(len(spelled), -1, -1):
        ending = tokens[start:]
        if matcher.validate_tokens(ending) == len(ending):
            return known.rest(start)
    return None


def find_closing(
    matcher: Any, closers: bytes, *, most_steps: int, known: Closing | None = None, words: Sequence[bytes] = ()
) -> Closing | None:
    """The closing from where `matcher`, a matcher over single bytes, stands; None if the search did not find one.

    `closers` are characters that only end what was begun, the one that ends most first. `known` is a closing from
    nearby: as soon as a place is found from where an end of it is valid, that is the answer. `words` are tried whole
    wherever they are allowed: byte by byte, their beginning looks like any other text.
    """
    order = count()
    places: list[tuple[float, int, Any, bytes, int]] = [(0.0, next(order), matcher.deep_copy(), b"", 0)]
    seen: set[tuple[bytes, int, int, int, bytes]] = set()
    for _ in range(most_steps):
        if not places:
            return None
        cost, _, here, text, made_up = heapq.heappop(places)
        if here.is_accepting():
            return Closing(text=text, made_up=made_up)
        rest = ending_of(known, here, list(known.text), END) if known is not None else None
        if rest is not None:
            return Closing(text=text + rest.text, made_up=len(text) + rest.made_up if rest.made_up else made_up)
        forced = here.compute_ff_bytes()
        if forced:
            if here.consume_tokens(list(forced)):
                heapq.heappush(places, (cost + _FORCED * len(forced), next(order), here, text + forced, made_up))
            continue
        mask = here.compute_bitmask()
        look = (mask, *_shape(text, closers), text[-_TAIL:] if words else b"")
        if look in seen:
            continue
        seen.add(look)
        allowed = _allowed(mask)
        ending = (
            closers if len(allowed) <= _TEXT else closers and _QUOTE
        )  # within a text, a bracket is a character like any other
        ender = next((byte for byte in ending if byte in allowed and byte in closers), None)
        for byte in _tried(allowed, ending):
            there = here.deep_copy()
            if there.consume_token(byte):
                added = text + bytes([byte])
                ends = byte in closers and _only_ends(byte, text, ending)
                plain = ender is None and (ending != _QUOTE or byte in _PLAIN)
                price = cost + (_ENDING if byte == ender else _CHOSEN if plain else _AWAY)
                heapq.heappush(places, (price, next(order), there, added, made_up if ends else len(added)))
        for word in words:
            there = here.deep_copy()
            if there.validate_tokens(list(word)) == len(word) and there.consume_tokens(list(word)):
                added = text + word
                heapq.heappush(places, (cost + _CHOSEN, next(order), there, added, len(added)))
    return None


def _allowed(mask: bytes) -> bytes:
    return bytes(value for value in range(256) if mask[value >> 3] >> (value & 7) & 1)


def _tried(allowed: bytes, closers: bytes) -> Iterator[int]:
    """The bytes worth a try: all of a few, else the closers and one of each family."""
    if len(allowed) <= _FEW:
        yield from allowed
        return
    left = set(allowed)
    for byte in closers:
        if byte in left:
            left.discard(byte)
            yield byte
    firsts = [next((byte for byte in family if byte in left), None) for family in _FAMILIES]
    left.difference_update(*_FAMILIES)
    # Before digits and letters: what stands between parts comes before one more of the same part.
    yield from sorted(byte for byte in left if 0x20 <= byte < 0x7F)
    yield from (first for first in firsts if first is not None)
    yield from sorted(byte for byte in left if byte >= 0x80)[:1]


def _only_ends(byte: int, before: bytes, closers: bytes) -> bool:
    """Whether `byte` ends what the model began: not if it ends, as empty, what the closing itself began."""
    if byte not in closers:
        return False
    return not before or before[-1] != _EMPTY.get(byte, -1)


def _shape(text: bytes, closers: bytes) -> tuple[int, int, int]:
    """What tells places apart that allow the same: depth of brackets, marks so far, characters since the last one."""
    if not closers:
        return 0, 0, len(text)
    depth = marks = run = 0
    for byte in text:
        run = 0 if byte in _MARKS else run + 1
        marks += byte in _MARKS
        depth += (byte in _OPENED) - (byte in _ENDED)
    return depth, marks, run
