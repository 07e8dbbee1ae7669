"""Answers that keep to their form whatever the model likes, however little room or time there is."""

import json
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from phiedge.bundle import ModelFacts
from phiedge.runtime.forms.following import Following
from phiedge.runtime.forms.form import BoxForm, ChoiceForm, Form, JsonForm, PatternForm
from phiedge.runtime.forms.grammar import Grammars
from phiedge.runtime.forms.mask import Mask
from phiedge.runtime.sampling import Sampler, Sampling
from phiedge.runtime.tokens import Tokenizer

NESTED = JsonForm(
    {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "properties": {
                "label": {"type": "string"},
                "box": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 4},
                "note": {"type": "string"},
            },
            "required": ["label", "box"],
            "additionalProperties": False,
        },
    }
)
FORMS = [ChoiceForm(["yes", "no", "not at all"]), BoxForm(), PatternForm("[A-Z]{2}-[0-9]{3}"), NESTED]


class Writer:
    """Writes answers of random taste."""

    def __init__(self, grammars: Grammars, tokenizer: Tokenizer, facts: ModelFacts) -> None:
        self.grammars, self.tokenizer, self.facts = grammars, tokenizer, facts

    def write(
        self, form: Form, seed: int, *, left: int, has_time: Callable[[int], bool] = lambda steps: True
    ) -> tuple[str, Following]:
        taste, sampler = np.random.default_rng(seed), Sampler(self.facts.vocab_size)
        sampler.start(Sampling(temperature=1.0, seed=seed))
        following = Following(self.grammars.compile(form), self.grammars, sampler, marks=())
        tokens: list[int] = []
        while not following.ended and len(tokens) < left:
            logits = taste.normal(0, 3, self.facts.vocab_size).astype(np.float32)
            tokens.append(following.choose(logits, left=left - len(tokens), has_time=has_time))
        tokens += following.tail(left - len(tokens))[0]
        assert len(tokens) <= left
        return b"".join(map(self.tokenizer.bytes_of, tokens)).decode(), following


@pytest.fixture
def writer(grammars: Grammars, tokenizer: Tokenizer, facts: ModelFacts) -> Writer:
    return Writer(grammars, tokenizer, facts)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("spare", [0, 1, 5, 40])
def test_an_answer_has_its_form_however_few_tokens_are_left(writer: Writer, form: Form, spare: int) -> None:
    least = writer.grammars.compile(form).least_tokens
    for seed in range(4):
        text, following = writer.write(form, seed, left=least + spare)
        assert following.complete, text
        form.value(text)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_an_answer_has_its_form_however_few_steps_there_is_time_for(writer: Writer, form: Form) -> None:
    shortest, _ = writer.write(form, 0, left=10_000, has_time=lambda steps: False)
    form.value(shortest)
    assert len(shortest) <= len(writer.grammars.compile(form).closing.text) + 8, "the last number may be any"


def test_the_stop_token_comes_only_where_the_form_allows_it(
    grammars: Grammars, tokenizer: Tokenizer, facts: ModelFacts
) -> None:
    following = Following(grammars.compile(ChoiceForm(["a", "ab"])), grammars, Sampler(facts.vocab_size), marks=())
    wants_to_stop = np.zeros(facts.vocab_size, np.float32)
    wants_to_stop[facts.eos_token_ids[0]] = 9
    wants_to_stop[list(tokenizer.control_ids - {facts.eos_token_ids[0]})] = 99
    first = following.choose(wants_to_stop, left=9, has_time=lambda steps: True)
    assert tokenizer.bytes_of(first)[:1] == b"a"
    assert not following.ended or tokenizer.bytes_of(first) == b"ab"
    if not following.ended:
        assert following.choose(wants_to_stop, left=8, has_time=lambda steps: True) == facts.eos_token_ids[0]
    assert following.ended
    assert following.complete


def test_the_likeliest_is_taken_where_there_is_room(writer: Writer, facts: ModelFacts) -> None:
    grammar = writer.grammars.compile(ChoiceForm(["red", "green", "blue"]))
    for wanted in ("red", "green", "blue"):
        following, text = Following(grammar, writer.grammars, Sampler(facts.vocab_size), marks=()), ""
        while not following.ended:
            logits = np.zeros(facts.vocab_size, np.float32)
            for token in range(facts.vocab_size):
                spelled = writer.tokenizer.bytes_of(token).decode(errors="replace")
                logits[token] = len(spelled) if spelled and wanted.startswith(text + spelled) else 0
            text += writer.tokenizer.bytes_of(following.choose(logits, left=9, has_time=lambda steps: True)).decode()
        assert text == wanted
        assert following.closed is None


def test_what_was_cut_says_by_what(writer: Writer) -> None:
    least = writer.grammars.compile(NESTED).least_tokens
    assert writer.write(NESTED, 1, left=least)[1].closed == "tokens"
    assert writer.write(NESTED, 1, left=400, has_time=lambda steps: steps < 12)[1].closed in ("time", None)
    assert writer.write(NESTED, 1, left=10_000, has_time=lambda steps: False)[1].closed == "time"


def test_laying_a_mask_over_scores_makes_no_arrays() -> None:
    class AllowsNothing:
        def unsafe_compute_mask_ptr(self, place: int, size: int) -> None:
            """Leave the mask as it is: nothing is allowed."""

    vocab_size = 2**16
    mask, logits = Mask(vocab_size), np.zeros(vocab_size, np.float32)
    assert np.all(mask.over(logits, AllowsNothing()) == -np.inf)
    tracemalloc.start()
    for _ in range(20):
        mask.over(logits, AllowsNothing())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 4096, "the scores alone have 64 times as many"


def follow(grammars: Grammars, tokenizer: Tokenizer, facts: ModelFacts, begun: str) -> Following:
    """An answer whose beginning the model chose."""
    following = Following(grammars.compile(NESTED), grammars, Sampler(facts.vocab_size), marks=())
    for token in tokenizer.encode(begun):
        assert choose(following, facts, token, has_time=lambda steps: True) == token
    return following


def choose(following: Following, facts: ModelFacts, token: int, *, has_time: Callable[[int], bool]) -> int:
    """What is taken where the model likes `token` best."""
    logits = np.zeros(facts.vocab_size, np.float32)
    logits[token] = 9
    return following.choose(logits, left=1000, has_time=has_time)


@pytest.mark.parametrize("begun", ["", "[{", '[{"label'])
def test_an_answer_of_which_nothing_was_chosen_is_made_up_as_a_whole(
    grammars: Grammars, tokenizer: Tokenizer, facts: ModelFacts, begun: str
) -> None:
    following = follow(grammars, tokenizer, facts, begun)
    tail, made_up = following.tail(1000)
    text = begun.encode() + b"".join(map(tokenizer.bytes_of, tail))
    assert following.complete
    assert json.loads(text)[0].keys() == {"label", "box"}
    assert following.made_up == text
    assert (following.said, 0 < made_up <= len(tail)) == (False, True)


def test_what_nobody_chose_is_told(grammars: Grammars, tokenizer: Tokenizer, facts: ModelFacts) -> None:
    following = follow(grammars, tokenizer, facts, '[{"label": "ab')
    tail, made_up = following.tail(1000)
    assert b"".join(map(tokenizer.bytes_of, tail)) == b'", "box": [0, 0]}]'
    assert following.made_up == b'", "box": [0, 0'
    assert following.said
    assert 0 < made_up < len(tail), "the brackets follow from the form"


def test_a_form_with_one_answer_has_nothing_made_up(grammars: Grammars, facts: ModelFacts) -> None:
    following = Following(grammars.compile(ChoiceForm(["only"])), grammars, Sampler(facts.vocab_size), marks=())
    assert following.tail(100)[1] == 0
    assert (following.said, following.made_up) == (True, b"")


def test_with_no_time_at_all_the_model_still_chooses_what_brings_the_end_nearer(
    grammars: Grammars, tokenizer: Tokenizer, facts: ModelFacts
) -> None:
    following = follow(grammars, tokenizer, facts, '[{"label": "ab", "box": [')
    (seven,), (letter,) = tokenizer.encode("7"), tokenizer.encode("x")
    assert choose(following, facts, seven, has_time=lambda steps: False) == seven
    assert following.closed is None
    in_text = follow(grammars, tokenizer, facts, '[{"label": "ab')
    assert choose(in_text, facts, letter, has_time=lambda steps: False) != letter, "it could go on for ever"
    assert in_text.closed == "time"


def test_the_tail_ends_what_was_begun(grammars: Grammars, tokenizer: Tokenizer, facts: ModelFacts) -> None:
    begun = '[{"label": "a", "box": [1, 2'
    following = follow(grammars, tokenizer, facts, begun)
    assert following.tail(0) == ([], 0)
    tail = b"".join(map(tokenizer.bytes_of, following.tail(10)[0])).decode()
    assert following.made_up == b""
    assert json.loads(begun + tail) == [{"label": "a", "box": [1, 2]}]
    assert following.complete
