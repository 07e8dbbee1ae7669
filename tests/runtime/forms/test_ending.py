"""Answers that were written elsewhere: whether they have their form, and the end that they lack."""

import json

import pytest

from phiedge.runtime.forms.ending import Ending, ending_after
from phiedge.runtime.forms.form import BoxForm, ChoiceForm, JsonForm
from phiedge.runtime.forms.grammar import Grammars

ITEM = JsonForm(
    {
        "type": "object",
        "properties": {"label": {"type": "string"}, "count": {"type": "integer"}},
        "required": ["label", "count"],
        "additionalProperties": False,
    }
)


@pytest.mark.parametrize(
    "written", ['{"label": "ü", "count": 3}', '{"label":"ü","count":3}', '{\n  "label": "ü",\n  "count": 3\n}']
)
def test_an_answer_that_has_its_form_lacks_nothing_however_it_is_spaced(grammars: Grammars, written: str) -> None:
    assert ending_after(grammars.compile(ITEM), written.encode()) == Ending()


@pytest.mark.parametrize("written", ["It is red.", '{"count": 3}', '{"label": "a", "count": "3"}', '{"label" : "a'])
def test_an_answer_of_another_form_has_no_end(grammars: Grammars, written: str) -> None:
    assert ending_after(grammars.compile(ITEM), written.encode()) is None


@pytest.mark.parametrize("written", ["", "{", '{"label": "', '{"label": "a', '{"label": "a", "count": ', "[0.5, 1"])
def test_what_was_cut_is_completed_and_what_nobody_chose_is_told(grammars: Grammars, written: str) -> None:
    form = BoxForm() if written.startswith("[") else ITEM
    ending = ending_after(grammars.compile(form), written.encode())
    assert ending is not None
    whole = written + ending.text
    form.value(whole)
    assert ending.made_up
    assert ending.made_up in whole
    assert ending.said == (len(written) > len('{"label": "'[: None if form is ITEM else 1]))
    assert (ending.made_up == whole) == (not ending.said)


def test_what_only_ends_was_not_made_up(grammars: Grammars) -> None:
    ending = ending_after(grammars.compile(ITEM), b'{"label": "a", "count": 3')
    assert ending == Ending(text="}")
    assert json.loads('{"label": "a", "count": 3' + ending.text) == {"label": "a", "count": 3}


def test_the_beginning_of_two_choices_is_completed_by_the_shorter(grammars: Grammars) -> None:
    ending = ending_after(grammars.compile(ChoiceForm(["left of it", "leftmost"])), b"left")
    assert ending is not None
    assert "left" + ending.text == "leftmost"
