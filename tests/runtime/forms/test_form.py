"""What a caller may ask for as a form, and what an answer of it stands for."""

import pytest

from phiedge.errors import UsageError
from phiedge.runtime.forms.form import BoxForm, ChoiceForm, JsonForm, PatternForm, PointForm


def test_the_value_of_a_form_is_what_its_text_stands_for() -> None:
    assert JsonForm({"type": "object"}).value('{"a": [1, 2.5]}') == {"a": [1, 2.5]}
    assert ChoiceForm(["yes", "no"]).value("no") == "no"
    assert BoxForm().value("[0.10, 0.2, 0.30, 1]") == (0.1, 0.2, 0.3, 1.0)
    assert PointForm().value("[0, 0.75]") == (0.0, 0.75)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ([], "there are 0 choices"),
        ("yes", "a list of texts"),
        (["yes", "yes"], "twice"),
        (["yes", ""], "empty"),
        (["yes", " no"], "white space"),
        ([1, 2], "must be a text"),
        (["\ud800"], "not valid Unicode"),
    ],
)
def test_choices_that_are_none_are_refused(choices: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ChoiceForm(choices)


@pytest.mark.parametrize("schema", ["{}", None, [1], {"a": {1, 2}}, {"a": float("nan")}])
def test_a_schema_that_is_not_a_json_object_is_refused(schema: object) -> None:
    with pytest.raises(UsageError, match="schema"):
        JsonForm(schema)


def test_a_schema_is_read_from_text() -> None:
    assert JsonForm.parse('{"type": "string"}') == JsonForm({"type": "string"})
    with pytest.raises(UsageError, match="not JSON: Expecting"):
        JsonForm.parse("{type}")
    with pytest.raises(UsageError, match="must be an object, not list"):
        JsonForm.parse("[]")


def test_a_pattern_must_be_one() -> None:
    with pytest.raises(UsageError, match="regular expression"):
        PatternForm("")
