"""Forms compiled into grammars over the tokens of one model, by llguidance, which is imported when the first one comes.

Control tokens are never part of a text here: every added token of the tokenizer is made a special one, so that a mark
that looks like plain text (`</think>`) cannot be written inside a string.
"""

import importlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from phiedge.bundle import ModelFacts
from phiedge.errors import ContextLengthError, MissingExtraError, UsageError
from phiedge.runtime.forms.closing import END, Closing, find_closing
from phiedge.runtime.forms.form import Form
from phiedge.runtime.forms.mask import Mask
from phiedge.runtime.tokens import Tokenizer

_KEPT = 32  # compiled grammars
_FIRST_SEARCH = 5_000  # steps of a search for the first closing; the ones in the middle of an answer are shorter

_MOST_WORDS = 32
_WORDS_COST = 10  # so many times fewer steps for a search with words in the middle of an answer, where time matters
_NO_WORDS = re.compile(r"\\[pPx]\{[^}]*\}|\\.|\[(?:\\.|[^\]])*\]|\{[^}]*\}")  # escapes, classes, repetitions
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """A form over the tokens of one model. `matcher` and `bytes_matcher` stand at its start: copy them.

    `closing` is the shortest answer; `least_tokens` is how many tokens it takes. `words` are parts of its pattern that
    an answer may need whole; none where the shortest answer was found without.
    """

    form: Form
    matcher: Any
    bytes_matcher: Any
    closing: Closing
    least_tokens: int
    words: Sequence[bytes]

    def close(self, matcher: Any, *, most_steps: int, known: Closing) -> Closing | None:
        """The closing from where `matcher`, over bytes, stands; see `find_closing`."""
        found = find_closing(matcher, self.form.closers, most_steps=most_steps, known=known)
        if found is None and self.words:
            steps = most_steps // _WORDS_COST
            found = find_closing(matcher, self.form.closers, most_steps=steps, known=known, words=self.words)
        return found

    @property
    def forced_at_first(self) -> int:
        """How many bytes every answer begins with."""
        return len(self.bytes_matcher.deep_copy().compute_ff_bytes())


class Grammars:
    """The grammars of one model, each compiled once."""

    def __init__(self, tokenizer: Tokenizer, facts: ModelFacts) -> None:
        self._tokenizer, self._facts = tokenizer, facts
        self._compiled: dict[tuple[str, str], Grammar] = {}
        self.end_ids = facts.eos_token_ids
        self.bytes_of = tokenizer.bytes_of

    def compile(self, form: Form) -> Grammar:
        """The grammar of `form`. Raises `MissingExtraError`, and `UsageError` for a form that cannot be one."""
        key = form.grammar
        grammar = self._compiled.pop(key, None)
        if grammar is None:
            grammar = self._make(form)
            if len(self._compiled) == _KEPT:
                del self._compiled[next(iter(self._compiled))]
        self._compiled[key] = grammar
        return grammar

    def spelled(self, text: bytes) -> list[int]:
        """`text` as tokens of one byte each. Byte-level vocabularies have one for every byte."""
        return [self._of_byte[value] for value in text]

    @cached_property
    def mask(self) -> Mask:
        """The mask that all answers use in turn."""
        return Mask(self._facts.vocab_size)

    @cached_property
    def tokens(self) -> Any:
        """The library's view of the model's tokenizer."""
        library = _library()
        description = json.loads(self._tokenizer.described())
        for added in description["added_tokens"]:
            added["special"] = True
        facts = self._facts
        return library.LLTokenizer(
            json.dumps(description), n_vocab=facts.vocab_size, eos_token=list(facts.eos_token_ids)
        )

    @cached_property
    def _of_byte(self) -> dict[int, int]:
        spelled = ((token, self.bytes_of(token)) for token in range(self._facts.vocab_size))
        return {text[0]: token for token, text in spelled if len(text) == 1}

    @cached_property
    def _bytes(self) -> Any:
        """A vocabulary of single bytes: a search for a closing has 256 ways to go on there, not a hundred thousand."""
        library = _library()
        return library.LLTokenizer(library.TokenizerWrapper(_ByteVocabulary()))

    def _make(self, form: Form) -> Grammar:
        library = _library()
        text = _written(library, form)
        failed, messages = library.LLMatcher.validate_grammar_with_warnings(text, self.tokens)
        if failed or messages:  # a warning tells what would not be kept
            raise UsageError(
                f"the {form.name} cannot be followed: {_told(messages)}", remedy=_REMEDIES[form.grammar[0]]
            )
        matcher = library.LLMatcher(self.tokens, text, log_level=0)
        bytes_matcher = library.LLMatcher(self._bytes, text, log_level=0)
        self.mask.over(self.mask.nothing, matcher.deep_copy())  # the first one makes tables, which takes long
        assert len(self._of_byte) == 256
        words: tuple[bytes, ...] = ()
        closing = find_closing(bytes_matcher, form.closers, most_steps=_FIRST_SEARCH)
        if closing is None and (words := _words(form)):
            closing = find_closing(bytes_matcher, form.closers, most_steps=_FIRST_SEARCH, words=words)
        if closing is None:
            raise UsageError(
                f"no answer of this {form.name} was found in {_FIRST_SEARCH} steps, so it could not be ended in time",
                remedy="ask for less: fewer required items, shorter texts, simpler patterns",
            )
        least = len(self.tokens.tokenize_bytes(closing.text))
        return Grammar(
            form=form, matcher=matcher, bytes_matcher=bytes_matcher, closing=closing, least_tokens=least, words=words
        )


def _words(form: Form) -> tuple[bytes, ...]:
    """What stands in a regular expression as plain letters and digits, the longest first.

    What only looks like a word (a name in a group) does no harm: the matcher takes what is allowed.
    """
    kind, text = form.grammar
    plain = _NO_WORDS.sub(" ", text) if kind == "regex" else ""
    found = {word.encode() for word in _WORD.findall(plain)}
    return tuple(sorted(found, key=lambda word: (-len(word), word))[:_MOST_WORDS])


def check_room(grammar: Grammar, *, max_new_tokens: int, room: int) -> None:
    """Refuse a form whose shortest answer does not fit. Raises `UsageError`, `ContextLengthError`."""
    least, name = grammar.least_tokens, grammar.form.name
    if least > max_new_tokens:
        raise UsageError(
            f"the shortest answer of this {name} has {least} tokens, max_new_tokens is {max_new_tokens}",
            remedy=f"give max_new_tokens={least} or more",
        )
    if least > room:
        raise ContextLengthError(
            f"the shortest answer of this {name} has {least} tokens, the context leaves {room}",
            remedy="shorten the prompt, or open the session with a larger max_context",
        )


_REMEDIES = {
    "json": "write it with what is supported: type, properties, required, items, enum, const, anyOf, $ref within the "
    "schema, lengths, ranges, patterns without look-around",
    "regex": "use the syntax of Rust's regular expressions, without look-around and back-references",
    "lark": "name the choices as plain texts",
}


def _written(library: Any, form: Form) -> str:
    kind, text = form.grammar
    matcher = library.LLMatcher
    if kind == "json":
        overrides = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        return str(matcher.grammar_from_json_schema(text, overrides=overrides))
    return str(matcher.grammar_from_regex(text) if kind == "regex" else matcher.grammar_from_lark(text))


def _told(messages: list[str]) -> str:
    """The library's complaint on one line."""
    return " ".join(messages[0].split()) if messages else "no reason given"


def _library() -> Any:
    try:
        return importlib.import_module("llguidance")
    except ImportError as error:
        raise MissingExtraError(what="an answer of a given form", extra="structured", missing=error.name) from error


class _ByteVocabulary:
    """What the library asks of a tokenizer, for single bytes."""

    eos_token_id = END
    bos_token_id = None
    special_token_ids = (END,)
    tokens = (*(bytes([value]) for value in range(256)), b"<end>")

    def __call__(self, text: bytes) -> list[int]:
        return list(text)
