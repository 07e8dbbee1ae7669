"""How often the reference model is right on scenes that it was never trained on, by task, and how often chance is."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from PIL import Image

from phiedge.errors import UsageError
from phiedge.progress import Progress, silent
from phiedge.reference.questions import TASKS, Question, ask
from phiedge.reference.scenes import draw_scene

SUITE = "phiedge-reference-scenes-1"
SUITE_CONTEXT = 512  # what a question takes at most: 256 tokens of picture, 49 of text, and the answer
HELD_OUT_SEED = 10**15  # training seeds stay far below
_ANSWER_TOKENS = 160  # the longest chain of thought that is trained, and room
Disturbance = Literal["none", "blank", "swap"]
Think = Literal["auto", "on", "off"]


class Answer(Protocol):
    """What an answerer gives back."""

    @property
    def answer(self) -> str: ...


class Answerer(Protocol):
    """Anything that answers a question about pictures, such as `phiedge.Session`."""

    def generate(self, prompt: str, images: Sequence[Image.Image], *, think: Think, max_new_tokens: int) -> Answer: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """Right answers out of `asked`; `chance` is the share that always giving the commonest answer would get."""

    task: str
    right: int
    asked: int
    chance: float

    @property
    def accuracy(self) -> float:
        return self.right / self.asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Scores by task, and over all questions."""

    tasks: tuple[TaskScore, ...]

    @property
    def asked(self) -> int:
        return sum(task.asked for task in self.tasks)

    @property
    def accuracy(self) -> float:
        return sum(task.right for task in self.tasks) / self.asked

    @property
    def chance(self) -> float:
        return sum(task.chance * task.asked for task in self.tasks) / self.asked

    def as_dict(self) -> dict[str, object]:
        """Plain values for a report."""
        return {
            "overall": round(self.accuracy, 4),
            "chance": round(self.chance, 4),
            "asked": self.asked,
            "tasks": {task.task: round(task.accuracy, 4) for task in self.tasks},
        }


def held_out(per_task: int) -> Iterator[tuple[Image.Image, Question]]:
    """`per_task` questions of every task with their pictures, each about a scene of its own; always the same."""
    for number, task in enumerate(TASKS):
        found, seed = 0, HELD_OUT_SEED * (number + 1)
        while found < per_task:
            scene = draw_scene(seed)
            for question in ask(scene, np.random.default_rng([2, seed]), len(TASKS)):
                if question.task == task:
                    yield scene.picture, question
                    found += 1
                    break
            seed += 1


def evaluate(
    answerer: Answerer,
    *,
    per_task: int,
    think: Think = "auto",
    disturbance: Disturbance = "none",
    progress: Progress = silent,
) -> Score:
    """Ask `per_task` held-out questions of every task.

    "blank" shows an even grey of the same size, "swap" the picture of another question of the task: a model that looks
    falls to chance. `per_task` is at least 2, so that there is another picture.
    """
    if per_task < 2:
        raise UsageError(f"{per_task} questions of a task do not make a score", remedy="ask at least 2")
    cases = list(held_out(per_task))
    right: Counter[str] = Counter()
    with progress.task("questions", len(cases), "questions") as advance:
        for k, (picture, question) in enumerate(cases):
            shown = picture
            if disturbance == "blank":
                shown = Image.new("RGB", picture.size, (128, 128, 128))
            elif disturbance == "swap":
                first = k - k % per_task  # of this task
                shown = cases[first + (k + 1 - first) % per_task][0]
            said = answerer.generate(question.prompt, [shown], think=think, max_new_tokens=_ANSWER_TOKENS).answer
            right[question.task] += question.accepts(said)
            advance(1)
    return Score(
        tasks=tuple(
            TaskScore(
                task=task, right=right[task], asked=per_task, chance=_chance([q for _, q in cases if q.task == task])
            )
            for task in TASKS
        )
    )


def _chance(questions: Sequence[Question]) -> float:
    """The share of questions that the best single answer is right for."""
    answers = Counter(question.answer for question in questions)
    return max(sum(question.accepts(answer) for question in questions) for answer in answers) / len(questions)
