from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from phiedge.errors import UsageError
from phiedge.reference.evaluate import Disturbance, Think, evaluate, held_out
from phiedge.reference.questions import TASKS, Question

PER_TASK = 4


@dataclass(frozen=True)
class Said:
    """What an answerer gives back."""

    answer: str


@dataclass
class Answerer:
    """Answers by a rule and remembers what it was asked."""

    rule: Callable[[str, Image.Image], str]
    asked: list[tuple[str, Image.Image]] = field(default_factory=list)
    options: set[tuple[str, int]] = field(default_factory=set)

    def generate(self, prompt: str, images: Sequence[Image.Image], *, think: Think, max_new_tokens: int) -> Said:
        (picture,) = images
        self.asked.append((prompt, picture))
        self.options.add((think, max_new_tokens))
        return Said(self.rule(prompt, picture))


def key(prompt: str, picture: Image.Image) -> tuple[str, bytes]:
    return prompt, picture.tobytes()


@pytest.fixture(scope="module")
def cases() -> list[tuple[Image.Image, Question]]:
    return list(held_out(PER_TASK))


@pytest.fixture
def knowing(cases: list[tuple[Image.Image, Question]]) -> Answerer:
    """Knows the answer to each question about its own picture, and says so if the picture is another."""
    answers = {key(question.prompt, picture): question.answer for picture, question in cases}
    return Answerer(lambda prompt, picture: answers.get(key(prompt, picture), "another picture"))


def test_the_held_out_questions_are_always_the_same(cases: list[tuple[Image.Image, Question]]) -> None:
    again = list(held_out(PER_TASK))
    assert [question for _, question in again] == [question for _, question in cases]
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(again, cases, strict=True))


def test_a_longer_suite_begins_with_the_shorter_one_in_each_task(cases: list[tuple[Image.Image, Question]]) -> None:
    longer = [question for _, question in held_out(PER_TASK + 1)]
    for task in TASKS:
        short = [question for _, question in cases if question.task == task]
        assert [question for question in longer if question.task == task][:PER_TASK] == short


def test_every_task_is_asked_equally_often_each_time_about_another_scene(
    cases: list[tuple[Image.Image, Question]],
) -> None:
    assert Counter(question.task for _, question in cases) == dict.fromkeys(TASKS, PER_TASK)
    assert len({picture.tobytes() for picture, _ in cases}) == len(cases)


def test_who_knows_everything_is_always_right(knowing: Answerer) -> None:
    score = evaluate(knowing, per_task=PER_TASK)
    assert (score.accuracy, score.asked) == (1.0, PER_TASK * len(TASKS))
    assert [task.task for task in score.tasks] == list(TASKS)


def test_who_says_nothing_is_never_right() -> None:
    assert evaluate(Answerer(lambda *_: ""), per_task=PER_TASK).accuracy == 0.0


@pytest.mark.parametrize("task", TASKS)
def test_chance_is_what_the_best_constant_answer_gets(task: str, cases: list[tuple[Image.Image, Question]]) -> None:
    questions = [question for _, question in cases if question.task == task]
    constants = {question.answer for question in questions}
    reached = []
    for constant in constants:
        score = evaluate(Answerer(lambda *_, constant=constant: constant), per_task=PER_TASK)
        reached.append(next(row.accuracy for row in score.tasks if row.task == task))
    chance = next(row.chance for row in score.tasks if row.task == task)
    assert max(reached) == chance
    if task != "click":
        assert chance == Counter(question.answer for question in questions).most_common(1)[0][1] / PER_TASK


def test_a_blank_picture_is_even_grey_of_the_same_size(
    knowing: Answerer, cases: list[tuple[Image.Image, Question]]
) -> None:
    assert evaluate(knowing, per_task=PER_TASK, disturbance="blank").accuracy == 0.0
    for (prompt, shown), (picture, question) in zip(knowing.asked, cases, strict=True):
        assert prompt == question.prompt
        assert shown.size == picture.size
        assert np.asarray(shown).std() == 0


def test_a_swapped_picture_is_that_of_another_question_of_the_task(
    knowing: Answerer, cases: list[tuple[Image.Image, Question]]
) -> None:
    evaluate(knowing, per_task=PER_TASK, disturbance="swap")
    task_of = {picture.tobytes(): question.task for picture, question in cases}
    for (prompt, shown), (picture, question) in zip(knowing.asked, cases, strict=True):
        assert prompt == question.prompt
        assert shown.tobytes() != picture.tobytes()
        assert task_of[shown.tobytes()] == question.task


@pytest.mark.parametrize("disturbance", ["blank", "swap"])
def test_who_looks_at_the_picture_falls_when_it_is_disturbed(knowing: Answerer, disturbance: Disturbance) -> None:
    score = evaluate(knowing, per_task=PER_TASK, disturbance=disturbance)
    assert score.accuracy <= score.chance


def test_options_reach_the_answerer(knowing: Answerer) -> None:
    evaluate(knowing, per_task=2, think="on")
    assert {think for think, _ in knowing.options} == {"on"}
    assert all(count >= 100 for _, count in knowing.options), "room for a chain of thought"


@pytest.mark.parametrize("per_task", [-1, 0, 1])
def test_too_few_questions_for_a_score_are_refused(knowing: Answerer, per_task: int) -> None:
    with pytest.raises(UsageError, match="do not make a score"):
        evaluate(knowing, per_task=per_task)


def test_a_score_as_plain_values_has_every_task(knowing: Answerer) -> None:
    told = evaluate(knowing, per_task=2).as_dict()
    assert told["overall"] == 1.0
    assert told["asked"] == 2 * len(TASKS)
    assert told["tasks"] == dict.fromkeys(TASKS, 1.0)


def test_progress_is_told_question_by_question(knowing: Answerer) -> None:
    told: list[int] = []

    class Heard:
        @contextmanager
        def task(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
            assert (total, unit) == (2 * len(TASKS), "questions")
            yield told.append

    evaluate(knowing, per_task=2, progress=Heard())
    assert told == [1] * 2 * len(TASKS)
