"""One answer that keeps to a grammar, token by token, and that can be ended at any time.

With every token goes the shortest closing from there (`closing.py`). A token is only taken if the closing after it
still fits: into the tokens that are left, and, as far as something in it is for the model to choose, into the time that
is left. Where the likeliest token leads too far, the next likely one is tried, and at last what is shortest. So an
answer that runs out of room or time turns to its end early enough. Where there is no time even for the shortest end,
the model says what it can on the way there.

The end itself is written down without a run of the model, as nothing is computed after it. So it fits into any time;
what the model did not come to choose is then in it all the same, and `made_up` is that text.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

from phiedge.errors import SessionError
from phiedge.runtime.forms.closing import Closing, ending_of
from phiedge.runtime.forms.grammar import Grammar, Grammars
from phiedge.runtime.sampling import Logits, Sampler

_TRIES = 8  # likely tokens that may lead too far before the shortest way is taken
_SEARCH = 2_000  # steps of a search for a closing in the middle of an answer
_NEVER = float("-inf")

Closed = Literal["time", "tokens"]
Lack = Literal["time", "tokens", "unknown"]  # unknown: no closing was found, so it is better not to go there


class Following:
    """An answer that follows `grammar`. `marks` are control tokens that may come in place of its first token."""

    def __init__(self, grammar: Grammar, grammars: Grammars, sampler: Sampler, *, marks: Collection[int]) -> None:
        self.grammar = grammar
        self.ended = False
        """Whether nothing can follow."""
        self.closed: Closed | None = None
        """What made it end earlier than the model would have."""
        self.made_up = b""
        """What of the answer nobody chose, as time was over; all of it where the model had chosen nothing."""
        self._grammars, self._sampler = grammars, sampler
        self._matcher: Any = grammar.matcher.deep_copy()
        self._marks = tuple(marks)
        self._closing = grammar.closing
        self._closing_tokens: list[int] | None = None  # of the closing, where they were needed
        self._written = bytearray()
        self._bytes_matcher: Any = grammar.bytes_matcher.deep_copy()
        self._followed = 0  # how much of what is written this matcher has taken

    @property
    def complete(self) -> bool:
        """Whether what is written has the form."""
        return bool(self._matcher.is_accepting())

    @property
    def begun(self) -> bool:
        return bool(self._written)

    def choose(self, logits: Logits, *, left: int, has_time: Callable[[int], bool]) -> int:
        """The next token, where `left` may still be written and `has_time` tells for how many steps there is time."""
        scores = self._grammars.mask.over(logits, self._matcher)
        if self._matcher.is_error():
            raise SessionError(f"the grammar cannot go on: {self._matcher.get_error()}", remedy="simplify the form")
        for mark in self._marks:
            if left > self.grammar.least_tokens + len(self._marks):
                scores[mark] = logits[mark]
        marks, self._marks = self._marks, ()
        in_time = self._in_time(has_time)
        for attempt in range(_TRIES):
            if attempt and scores.max() == _NEVER:
                break
            token = self._sampler.choose(scores)
            if token in marks:
                return token
            lack = self._take(token, left - 1, in_time)
            if lack is None:
                return token
            if lack != "unknown":
                self.closed = self.closed or lack
            scores[token] = _NEVER
        return self._take_shortest()

    def forced(self, left: int) -> list[int]:
        """The tokens that must follow, as far as `left` has room; nothing is taken yet."""
        tokens: list[int] = [] if self.ended else self._matcher.compute_ff_tokens()
        return tokens if len(tokens) <= left else []

    def take_forced(self, tokens: Sequence[int]) -> None:
        """Take what `forced` gave. It is the beginning of every closing."""
        text = b"".join(map(self._grammars.bytes_of, tokens))
        if not self._closing.text.startswith(text) or not self._matcher.consume_tokens(list(tokens)):
            raise SessionError(f"the grammar refuses {text!r}, which it forced", remedy="simplify the form")
        self._written += text
        self._closing, self._closing_tokens = self._closing.rest(len(text)), None
        self.ended = bool(self._matcher.is_stopped())

    def tail(self, left: int) -> tuple[list[int], int]:
        """The tokens that end it here, and how many of them are made up; none if it is whole, or there is no room."""
        closing = self._closing
        tokens = [] if self.complete else self._tokens_of(closing)
        if not tokens or len(tokens) > left or not self._matcher.consume_tokens(tokens):
            return [], 0
        said_nothing = bool(closing.made_up) and len(self._written) <= self.grammar.forced_at_first
        self.made_up = bytes(self._written) + closing.text if said_nothing else closing.text[: closing.made_up]
        self._written += closing.text
        return tokens, self._steps(closing)

    @property
    def said(self) -> bool:
        """Whether any of it was chosen."""
        return not self.made_up or len(self.made_up) < len(self._written)

    def _in_time(self, has_time: Callable[[int], bool]) -> Callable[[Closing], bool]:
        """Tells whether there is time for a closing; where there is none for the shortest, whether it is nearer."""

        def fits(closing: Closing) -> bool:
            return not closing.made_up or has_time(closing.made_up) or has_time(self._steps(closing))

        before = self._closing.made_up
        return fits if fits(self._closing) else lambda closing: closing.made_up < before

    def _take(self, token: int, left: int, in_time: Callable[[Closing], bool]) -> Lack | None:
        """Take `token` if there is room and time to end after it; say what lacks if it was not taken."""
        if token in self._grammars.end_ids:
            self.ended = True
            return None
        if not self._matcher.consume_token(token):
            raise SessionError(
                f"the grammar refuses token {token} that it allowed: {self._matcher.get_error()}",
                remedy="simplify the form",
            )
        added = self._grammars.bytes_of(token)
        closing, tokens = self._after(token, added)
        lack: Lack | None = "unknown" if closing is None else self._lack(closing, tokens, left, in_time)
        if closing is None or lack is not None:
            self._matcher.rollback(1)
            return lack
        self._written += added
        self._closing, self._closing_tokens = closing, tokens
        self.ended = bool(self._matcher.is_stopped())
        return None

    def _take_shortest(self) -> int:
        """The first token of the closing, or the stop token where there is nothing to close."""
        closing, tokens = self._closing, self._tokens_of(self._closing)
        if not tokens:
            self.ended = True
            return self._grammars.end_ids[0]
        token, *rest = tokens
        added = self._grammars.bytes_of(token)
        if not self._matcher.consume_token(token):
            raise SessionError(f"the grammar refuses its own closing {closing.text!r}", remedy="simplify the form")
        self._written += added
        self._closing, self._closing_tokens = closing.rest(len(added)), rest
        self.ended = bool(self._matcher.is_stopped())
        return token

    def _after(self, token: int, added: bytes) -> tuple[Closing | None, list[int] | None]:
        """The closing after `token`, which the matcher has taken, and its tokens if they are known."""
        closing, tokens = self._closing, self._closing_tokens
        if added and closing.text.startswith(added):
            kept = tokens[1:] if tokens and tokens[0] == token else None
            return closing.rest(len(added)), kept
        ending = ending_of(closing, self._matcher, self._grammars.spelled(closing.text), self._grammars.end_ids[0])
        if ending is not None:
            return ending, None
        matcher = self._bytes_matcher_after(added)
        return self.grammar.close(matcher, most_steps=_SEARCH, known=closing), None

    def _bytes_matcher_after(self, added: bytes) -> Any:
        """A matcher over bytes after what is written, and `added`."""
        self._bytes_matcher.consume_tokens(list(self._written[self._followed :]))
        self._followed = len(self._written)
        matcher = self._bytes_matcher.deep_copy()
        matcher.consume_tokens(list(added))
        return matcher

    def _lack(
        self, closing: Closing, tokens: list[int] | None, left: int, in_time: Callable[[Closing], bool]
    ) -> Closed | None:
        """What is lacking for `closing`, if anything. A token has a byte at least, so bytes are mostly enough."""
        if len(closing.text) > left:
            known = self._grammars.tokens.tokenize_bytes(closing.text) if tokens is None else tokens
            if len(known) > left:
                return "tokens"
        return None if in_time(closing) else "time"

    def _steps(self, closing: Closing) -> int:
        """How many tokens of `closing` it takes until nothing is left to choose."""
        covered = steps = 0
        for token in self._grammars.tokens.tokenize_bytes(closing.text):
            if covered >= closing.made_up:
                break
            covered += len(self._grammars.bytes_of(token))
            steps += 1
        return steps

    def _tokens_of(self, closing: Closing) -> list[int]:
        if self._closing_tokens is None:
            self._closing_tokens = list(self._grammars.tokens.tokenize_bytes(closing.text))
        return self._closing_tokens
