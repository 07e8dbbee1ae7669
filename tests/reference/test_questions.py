"""Every question's answer, found again from what stands in the scene by rules of this file's own."""

import re
from collections import Counter

import numpy as np
import pytest

from phiedge.reference.questions import TASKS, THINKING_TASKS, Question, ask
from phiedge.reference.scenes import Item, Scene, draw_scene

Case = tuple[Scene, Question]
ALL = 10_000


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """Every question about 120 scenes."""
    scenes = [draw_scene(seed) for seed in range(120)]
    return [(scene, question) for scene in scenes for question in ask(scene, np.random.default_rng(0), ALL)]


def of_task(cases: list[Case], task: str) -> list[Case]:
    return [case for case in cases if case[1].task == task]


def named(scene: Scene, name: str) -> Item:
    """The only thing that `name` can mean: "PAY button", "red button", "can", "red can"."""
    *described, kind = name.removeprefix("the ").split()
    found = [
        item
        for item in scene.items
        if item.kind == kind and all(word in (item.label, item.colour) for word in described)
    ]
    assert len(found) == 1, f"{name} is one of {len(found)}"
    return found[0]


def counted(scene: Scene, noun: str) -> int:
    *described, kind = noun.split()
    singular = {"boxes": "box"}.get(kind, kind.removesuffix("s"))
    return sum(
        (item.kind == singular or (singular == "product" and item in scene.products))
        and all(word == item.colour for word in described)
        for item in scene.items
    )


def fields(pattern: str, text: str) -> tuple[str, ...]:
    match = re.fullmatch(pattern, text)
    assert match is not None, f"{text!r} is not like {pattern!r}"
    return match.groups()


def test_colours_are_those_of_the_thing_that_is_named(cases: list[Case]) -> None:
    for scene, question in of_task(cases, "colour"):
        (name,) = fields(r"What colour is (.+)\?", question.prompt)
        assert question.answer == named(scene, name).colour


def test_what_a_button_says_is_its_label(cases: list[Case]) -> None:
    for scene, question in of_task(cases, "read"):
        (name,) = fields(r"What does (the \w+ button) say\?", question.prompt)
        assert question.answer == named(scene, name).label


def test_numbers_are_those_on_the_display_and_on_the_tags(cases: list[Case]) -> None:
    for scene, question in of_task(cases, "digit"):
        if question.prompt == "What number is on the display?":
            (display,) = scene.of_kind("display")
            assert question.answer == str(display.number)
        else:
            (name,) = fields(r"What is the price of (.+)\?", question.prompt)
            assert question.answer == str(named(scene, name).number)


def test_counts_are_counted(cases: list[Case]) -> None:
    for scene, question in of_task(cases, "count"):
        (noun,) = fields(r"How many (.+) are there\?", question.prompt)
        assert question.answer == str(counted(scene, noun))


def test_the_steps_of_a_count_add_up(cases: list[Case]) -> None:
    for scene, question in of_task(cases, "count"):
        assert question.thinking is not None
        noun, steps, total = fields(r"(.+)\. (.*)\. Total (\d+)\.", question.thinking)
        line = "row" if scene.place == "kiosk" else "shelf"
        parts = [fields(rf"{line} (\d+): (\d+)", step) for step in steps.split(", ")]
        assert [int(number) for number, _ in parts] == list(range(1, len(parts) + 1))
        assert sum(int(part) for _, part in parts) == int(total) == int(question.answer)
        assert question.prompt == f"How many {noun} are there?"


def test_relations_hold_between_the_centres(cases: list[Case]) -> None:
    pattern = r"Is (the .+) (left or right|above or below)(?: of)? (the .+)\?"
    for scene, question in of_task(cases, "relation"):
        name, axis, other = fields(pattern, question.prompt)
        first, second = named(scene, name), named(scene, other)
        if axis == "left or right":
            assert question.answer == ("left" if first.centre[0] < second.centre[0] else "right")
        else:
            assert question.answer == ("above" if first.centre[1] < second.centre[1] else "below")


def test_the_reasons_of_a_relation_are_the_places_that_it_compares(cases: list[Case]) -> None:
    for _, question in of_task(cases, "relation"):
        assert question.thinking is not None
        _, unit, a, _, same_unit, b, word = fields(
            r"(.+): (x|y) (\d\.\d\d)\. (.+): (x|y) (\d\.\d\d)\. (Smaller|Larger)\.", question.thinking
        )
        assert unit == same_unit == ("x" if question.answer in ("left", "right") else "y")
        assert (float(a) < float(b)) == (word == "Smaller") == (question.answer in ("left", "above"))


def test_where_to_click_is_the_box_of_the_thing_that_is_named(cases: list[Case]) -> None:
    for scene, question in of_task(cases, "click"):
        if question.prompt.startswith("Where do I click"):
            name = fields(r"Where do I click for (\w+)\?", question.prompt)[0] + " button"
        else:
            (name,) = fields(r"Where is (.+)\?", question.prompt)
        width, height = scene.picture.size
        expected = np.array(named(scene, name).box) / (width, height, width, height)
        written = [float(value) for value in fields(r"\[(.+), (.+), (.+), (.+)\]", question.answer)]
        assert np.abs(expected - written).max() <= 0.025 + 1e-9, "places are told to the nearest twentieth"
        assert question.target == pytest.approx(tuple(expected))


def test_every_right_answer_is_accepted(cases: list[Case]) -> None:
    for _, question in cases:
        assert question.accepts(question.answer), question
        assert question.accepts(f" {question.answer}\n"), question


def test_no_question_is_asked_twice_in_a_scene(cases: list[Case]) -> None:
    asked = Counter((id(scene), question.prompt) for scene, question in cases)
    assert asked.most_common(1)[0][1] == 1


def test_only_counts_and_relations_come_with_reasons(cases: list[Case]) -> None:
    assert {question.task for _, question in cases} == set(TASKS)
    assert {question.task for _, question in cases if question.thinking is not None} == set(THINKING_TASKS)


CLICK = Question(
    task="click", prompt="Where is the can?", answer="[0.20, 0.40, 0.40, 0.80]", target=(0.2, 0.4, 0.4, 0.8)
)


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        ("[0.20, 0.40, 0.40, 0.80]", True),
        ("[0.29, 0.59, 0.31, 0.61]", True),
        ("[0.10, 0.40, 0.29, 0.80]", False),
        ("[0.20, 0.70, 0.40, 0.99]", False),
        ("[0.20, 0.40, 0.40]", False),
        ("[0.20, 0.40, 0.40, 0.80] or so", False),
        ("0.20, 0.40, 0.40, 0.80", False),
        ("", False),
    ],
)
def test_a_click_is_right_if_the_middle_of_its_box_is_on_the_thing(answer: str, accepted: bool) -> None:
    assert CLICK.accepts(answer) is accepted


@pytest.mark.parametrize("answer", ["", "2.", "12", "two"])
def test_words_and_numbers_must_be_exact(answer: str) -> None:
    assert not Question(task="count", prompt="How many cans are there?", answer="2").accepts(answer)


def test_questions_are_spread_over_the_tasks_that_a_scene_allows() -> None:
    for seed in range(20):
        scene = draw_scene(seed)
        possible = {question.task for question in ask(scene, np.random.default_rng(0), ALL)}
        asked = [question.task for question in ask(scene, np.random.default_rng(1), len(possible))]
        assert sorted(asked) == sorted(possible)


def test_the_same_generator_asks_the_same() -> None:
    scene = draw_scene(11)

    def prompts(seed: int) -> list[str]:
        return [question.prompt for question in ask(scene, np.random.default_rng(seed), 5)]

    assert prompts(3) == prompts(3)
    assert prompts(3) != prompts(4)


def test_no_more_questions_are_asked_than_there_are() -> None:
    scene = draw_scene(11)
    assert ask(scene, np.random.default_rng(0), 0) == []
    assert len(ask(scene, np.random.default_rng(0), ALL)) == len(ask(scene, np.random.default_rng(1), ALL))
