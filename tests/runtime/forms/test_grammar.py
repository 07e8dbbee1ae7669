"""Forms compiled for a tokenizer: what cannot be followed says so, and control tokens are no text."""

import re
import sys

import pytest

from phiedge.bundle import ModelFacts
from phiedge.errors import ContextLengthError, MissingExtraError, UsageError
from phiedge.runtime.forms.form import BoxForm, ChoiceForm, Form, JsonForm, PatternForm
from phiedge.runtime.forms.grammar import Grammars, check_room
from phiedge.runtime.tokens import Tokenizer


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (JsonForm({"type": "nope"}), "Invalid type: nope"),
        (JsonForm({"not": {"type": "string"}}), "Unimplemented keys"),
        (JsonForm({"type": "array", "uniqueItems": True}), "uniqueItems"),
        (JsonForm({"x-guidance": {"lenient": True}, "not": {"type": "string"}}), "Unimplemented keys"),
        (JsonForm({"oneOf": [{"type": "number"}, {"type": "integer"}]}), "oneOf"),
        (JsonForm({"enum": []}), "Unsatisfiable"),
        (JsonForm({"$ref": "#/nowhere"}), "does not exist"),
        (JsonForm({"$ref": "http://example.org/schema"}), "not present"),
        (JsonForm({"type": "integer", "minimum": 5, "maximum": 2}), "Unsatisfiable"),
        (JsonForm({"type": "array", "minItems": 2000, "items": {"type": "string", "minLength": 9}}), "no answer of"),
        (PatternForm("("), "unclosed group"),
        (PatternForm("(?=a)b"), "look-around"),
    ],
)
def test_a_form_that_cannot_be_followed_is_refused_with_the_reason(
    grammars: Grammars, form: Form, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        grammars.compile(form)
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("pattern", "shortest"),
    [
        ("[a-z]+ing", b"aing"),
        (".*foo", b"foo"),
        (r"[a-z]+station\d{2}[a-z]*ed", b"astation00ed"),
        ("[a-z]+(ing|ed)", b"aed"),
        ("[a-z]+s", b"as"),
    ],
)
def test_a_pattern_may_end_in_a_word_that_could_be_any_other(grammars: Grammars, pattern: str, shortest: bytes) -> None:
    found = grammars.compile(PatternForm(pattern)).closing
    assert re.fullmatch(pattern, found.text.decode())
    assert len(found.text) <= len(shortest) + 1


def test_a_pattern_with_a_word_is_ended_from_the_middle(grammars: Grammars) -> None:
    grammar = grammars.compile(PatternForm("[a-z]+ing|[0-9a-f]+-[a-z]+ed"))
    for begun in ("walki", "12-wal"):
        matcher = grammar.bytes_matcher.deep_copy()
        assert matcher.consume_tokens(list(begun.encode()))
        closing = grammar.close(matcher, most_steps=2000, known=grammar.closing)
        assert closing is not None
        assert re.fullmatch(grammar.form.grammar[1], begun + closing.text.decode())


def test_a_form_is_compiled_once(grammars: Grammars) -> None:
    assert grammars.compile(ChoiceForm(["a", "b"])) is grammars.compile(ChoiceForm(["a", "b"]))
    assert grammars.compile(ChoiceForm(["a", "c"])) is not grammars.compile(ChoiceForm(["a", "b"]))


def test_the_missing_library_is_named_with_its_pip_line(
    tokenizer: Tokenizer, facts: ModelFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingExtraError) as missing:
        Grammars(tokenizer, facts).compile(BoxForm())
    assert "pip install 'phiedge[structured]'" in missing.value.remedy


def test_a_control_token_is_no_text_even_where_every_character_is_allowed(
    grammars: Grammars, tokenizer: Tokenizer, facts: ModelFacts
) -> None:
    grammar = grammars.compile(PatternForm("(?s:.*)"))
    mask = grammar.matcher.deep_copy().compute_bitmask()
    allowed = {token for token in tokenizer.control_ids if mask[token // 8] >> token % 8 & 1}
    assert allowed == set(facts.eos_token_ids)
    assert facts.end_think_token_id not in allowed


def test_the_shortest_answer_must_fit(grammars: Grammars) -> None:
    grammar = grammars.compile(PatternForm("[0-9]{40}"))
    least = grammar.least_tokens
    assert 10 <= least <= 40
    check_room(grammar, max_new_tokens=least, room=least)
    with pytest.raises(UsageError, match=f"has {least} tokens, max_new_tokens is {least - 1}"):
        check_room(grammar, max_new_tokens=least - 1, room=1000)
    with pytest.raises(ContextLengthError, match=f"has {least} tokens, the context leaves {least - 1}"):
        check_room(grammar, max_new_tokens=1000, room=least - 1)
