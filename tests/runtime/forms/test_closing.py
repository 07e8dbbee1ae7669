"""The shortest way to end an answer: always valid, and honest about what would be made up."""

import json

import pytest

from phiedge.runtime.forms.closing import Closing, find_closing
from phiedge.runtime.forms.form import BoxForm, ChoiceForm, Form, JsonForm, PatternForm
from phiedge.runtime.forms.grammar import Grammars

ITEM = JsonForm(
    {
        "type": "object",
        "properties": {
            "label": {"type": "string"},
            "count": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "seen": {"type": "string", "format": "date"},
        },
        "required": ["label", "count", "tags"],
        "additionalProperties": False,
    }
)


def closing_after(grammars: Grammars, form: Form, text: str) -> Closing:
    matcher = grammars.compile(form).bytes_matcher.deep_copy()
    assert matcher.consume_tokens(list(text.encode()))
    closing = find_closing(matcher, form.closers, most_steps=2000)
    assert closing is not None
    return closing


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ('{"label": "a', '", "count": 0, "tags": []}'),
        ('{"label": "a", "count": 12', ', "tags": []}'),
        ('{"label": "a", "count": 12, "tags": ["x", "y', '"]}'),
        ('{"label": "a", "count": 12, "tags": ["x"], "se', 'en": "0000-01-01"}'),
        ('{"label": "a", "count": 12, "tags": ["x"]', "}"),
        ('{"label": "é\\', '"", "count": 0, "tags": []}'),
    ],
)
def test_an_answer_in_json_is_ended_from_anywhere(grammars: Grammars, text: str, rest: str) -> None:
    closing = closing_after(grammars, ITEM, text)
    json.loads(text + closing.text.decode())
    assert len(closing.text) <= len(rest)


def test_what_only_ends_is_told_from_what_is_made_up(grammars: Grammars) -> None:
    assert closing_after(grammars, ITEM, '{"label": "a", "count": 12, "tags": ["x", "y').made_up == 0
    empty = closing_after(grammars, ITEM, '{"label": "a", "count": 12')
    assert empty.text[: empty.made_up] == b', "tags": []', "that the list is empty is not the model's word"
    number = closing_after(grammars, ITEM, '{"label": "a')
    assert number.text[: number.made_up].endswith(b'"tags": []')


def test_a_place_in_the_picture_is_cut_but_not_made_up(grammars: Grammars) -> None:
    assert closing_after(grammars, BoxForm(), "[0.25, 0.5, 0.75, 0.9") == Closing(text=b"]", made_up=0)
    assert closing_after(grammars, BoxForm(), "[0.25, 0.5, 0.75, ").made_up == 1


def test_the_word_that_is_left_is_written_and_one_of_several_is_chosen(grammars: Grammars) -> None:
    choices = ChoiceForm(["left of it", "left", "right"])
    assert closing_after(grammars, choices, "ri") == Closing(text=b"ght", made_up=0)
    assert closing_after(grammars, choices, "left ") == Closing(text=b"of it", made_up=0)
    assert closing_after(grammars, choices, "le") == Closing(text=b"ft", made_up=0)
    assert closing_after(grammars, choices, "").made_up == 1


def test_a_longer_way_is_found_where_a_short_one_ends_nowhere(grammars: Grammars) -> None:
    assert closing_after(grammars, PatternForm("[ -~]{9}!"), "").text.endswith(b"!")
    assert closing_after(grammars, PatternForm("x*(abc|zz)"), "").text == b"zz"
    nested = JsonForm({"type": "array", "minItems": 2, "items": {"type": "string", "minLength": 6}})
    assert len(json.loads(closing_after(grammars, nested, "").text)) == 2


def test_a_search_that_is_not_given_enough_steps_finds_nothing(grammars: Grammars) -> None:
    matcher = grammars.compile(ITEM).bytes_matcher
    assert find_closing(matcher, ITEM.closers, most_steps=3) is None


def test_the_end_of_a_closing_from_nearby_is_used(grammars: Grammars) -> None:
    before = closing_after(grammars, BoxForm(), "[0.5, ")
    matcher = grammars.compile(BoxForm()).bytes_matcher.deep_copy()
    matcher.consume_tokens(list(b"[0.5, 0."))
    found = find_closing(matcher, BoxForm().closers, most_steps=15, known=before)
    assert found == Closing(text=b"0, 0, 0]", made_up=7)


@pytest.mark.parametrize(
    ("pattern", "shortest"),
    [
        (r"\d+\.\d\d", b"0.00"),
        (r"\d+ cans", b"0 cans"),
        (r"[A-Z][a-z]+ [A-Z][a-z]+", b"Aa Aa"),
        (r"#\d+: \d{1,2} of \d{1,2}", b"#0: 0 of 0"),
        (r"\d+(\.\d+)? (EUR|USD)", b"0 EUR"),
    ],
)
def test_a_pattern_goes_on_to_its_next_part_as_soon_as_it_may(
    grammars: Grammars, pattern: str, shortest: bytes
) -> None:
    assert grammars.compile(PatternForm(pattern)).closing.text == shortest
