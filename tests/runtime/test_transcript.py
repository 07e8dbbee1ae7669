from hypothesis import given
from hypothesis import strategies as st

from phiedge.runtime.transcript import Transcript

STOP, BOS, THINK, END_THINK, NOTHINK = 503, 501, 507, 508, 505


def transcript(tokenizer, facts, *, capacity: int = 64, starts_thinking: bool = False) -> Transcript:
    return Transcript(tokenizer, facts, capacity=capacity, starts_thinking=starts_thinking)


def feed(script: Transcript, tokens: list[int]) -> list[tuple[str, str]]:
    events = [script.add(token) for token in tokens]
    rest = script.end()
    return [(event.kind, event.text) for event in [*events, *([rest] if rest else [])]]


def test_thinking_and_answer_are_told_apart(tokenizer, facts) -> None:
    script = transcript(tokenizer, facts)
    tokens = [THINK, *tokenizer.encode("why"), END_THINK, *tokenizer.encode(" so"), STOP]
    feed(script, tokens)
    assert (script.text("thinking"), script.text("answer")) == ("why", "so")
    assert (script.tokens("thinking"), script.tokens("answer")) == (3, 3)
    assert script.token_ids == tuple(tokens)


def test_a_prompt_that_ends_with_the_thinking_mark_starts_in_thought(tokenizer, facts) -> None:
    script = transcript(tokenizer, facts, starts_thinking=True)
    feed(script, [*tokenizer.encode("hm"), END_THINK, *tokenizer.encode("yes")])
    assert (script.text("thinking"), script.text("answer")) == ("hm", "yes")


def test_the_mark_for_no_thinking_is_not_part_of_the_answer(tokenizer, facts) -> None:
    script = transcript(tokenizer, facts)
    feed(script, [NOTHINK, *tokenizer.encode("42"), STOP])
    assert (script.text("answer"), script.tokens("answer")) == ("42", 2)


def test_thought_that_never_ends_leaves_the_answer_empty(tokenizer, facts) -> None:
    script = transcript(tokenizer, facts, capacity=3)
    feed(script, [THINK, *tokenizer.encode("ab")])
    assert script.full
    assert (script.text("thinking"), script.text("answer")) == ("ab", "")


def test_the_stop_tokens_are_the_models_own_and_the_begin_of_text_token(tokenizer, facts) -> None:
    script = transcript(tokenizer, facts)
    assert [token for token in range(facts.vocab_size) if script.stops(token)] == [BOS, STOP]


def test_white_space_at_the_ends_is_no_text_and_between_words_it_is(tokenizer, facts) -> None:
    script = transcript(tokenizer, facts)
    events = feed(script, [*tokenizer.encode("\n  a  b \n"), STOP])
    assert script.text("answer") == "a  b"
    assert "".join(text for _, text in events) == "a  b"


def test_a_character_that_stays_incomplete_ends_with_its_text(tokenizer, facts) -> None:
    half = tokenizer.encode("€")[:-1]
    for ending in ([STOP], [THINK], []):
        script = transcript(tokenizer, facts)
        events = feed(script, [*half, *ending])
        assert events[-1] == ("answer", "\ufffd")
        assert script.text("answer") == "\ufffd"


def test_the_last_token_that_fits_brings_what_was_incomplete(tokenizer, facts) -> None:
    script = transcript(tokenizer, facts, capacity=2)
    assert feed(script, tokenizer.encode("€")[:-1])[-1] == ("answer", "\ufffd")


@given(tokens=st.lists(st.integers(0, 511), max_size=30), starts_thinking=st.booleans())
def test_the_texts_of_the_events_joined_are_the_text(tokenizer, facts, tokens, starts_thinking) -> None:
    script = transcript(tokenizer, facts, starts_thinking=starts_thinking)
    events = feed(script, tokens)
    for channel in ("thinking", "answer"):
        assert "".join(text for kind, text in events if kind == channel) == script.text(channel)
