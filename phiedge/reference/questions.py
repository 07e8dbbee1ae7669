"""Questions about a scene, with the answer, a chain of thought and the way the answer is judged.

Six tasks: colour, count, digit, relation, read, click. Every question has exactly one right answer in its scene.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from phiedge.reference.scenes import COLOURS, Item, Scene

TASKS = ("colour", "count", "digit", "relation", "read", "click")
THINKING_TASKS = ("relation", "count")
_BOX = re.compile(r"^\[(\d\.\d+), (\d\.\d+), (\d\.\d+), (\d\.\d+)\]$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A prompt with its answer; `thinking` is a chain of thought that leads to it, where the task has one."""

    task: str
    prompt: str
    answer: str
    thinking: str | None = None
    target: tuple[float, float, float, float] | None = None  # the true box, 0-1, of a click question

    def accepts(self, answer: str) -> bool:
        """Exact match; for click, the centre of the answered box must lie in the true one (the ScreenSpot rule)."""
        if self.target is None:
            return answer.strip() == self.answer
        match = _BOX.match(answer.strip())
        if match is None:
            return False
        x1, y1, x2, y2 = (float(v) for v in match.groups())
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        return self.target[0] <= x <= self.target[2] and self.target[1] <= y <= self.target[3]


def ask(scene: Scene, rng: np.random.Generator, count: int) -> list[Question]:
    """Up to `count` different questions about a scene, spread over the tasks it allows."""
    pools: dict[str, list[Question]] = {task: [] for task in TASKS}
    for question in _every_question(scene):
        pools[question.task].append(question)
    queues = [[pool[i] for i in rng.permutation(len(pool))] for pool in pools.values() if pool]
    queues = [queues[i] for i in rng.permutation(len(queues))]
    chosen: list[Question] = []
    while queues and len(chosen) < count:
        queues = [queue for queue in queues if queue]
        chosen.extend(queue.pop() for queue in queues[: count - len(chosen)])
    return chosen


def _every_question(scene: Scene) -> Iterator[Question]:
    yield from _kiosk_questions(scene) if scene.place == "kiosk" else _shelf_questions(scene)


def _unique(items: list[Item], key: Callable[[Item], object]) -> Iterator[Item]:
    seen = [key(item) for item in items]
    yield from (item for item, value in zip(items, seen, strict=True) if seen.count(value) == 1)


def _kiosk_questions(scene: Scene) -> Iterator[Question]:
    buttons, size = scene.of_kind("button"), scene.picture.size
    for display in scene.of_kind("display"):
        yield Question(task="digit", prompt="What number is on the display?", answer=str(display.number))
    for button in buttons:
        yield Question(task="colour", prompt=f"What colour is the {button.label} button?", answer=str(button.colour))
        yield _click(f"Where do I click for {button.label}?", button, size)
    for button in _unique(buttons, lambda item: item.colour):
        yield Question(task="read", prompt=f"What does the {button.colour} button say?", answer=str(button.label))
        yield _click(f"Where is the {button.colour} button?", button, size)
    for first in buttons:
        for second in buttons:
            if first is not second:
                yield from _relations(f"the {first.label} button", first, f"the {second.label} button", second, size)
    lines = _lines(buttons)
    yield _count("How many buttons are there?", "buttons", "row", lines, buttons)
    for colour in COLOURS:
        chosen = [item for item in buttons if item.colour == colour]
        if chosen or colour == "red":
            yield _count(f"How many {colour} buttons are there?", f"{colour} buttons", "row", lines, chosen)


def _shelf_questions(scene: Scene) -> Iterator[Question]:
    products, size = scene.products, scene.picture.size
    named = [(f"the {item.kind}", item) for item in _unique(products, lambda item: item.kind)]
    full = [
        (f"the {item.colour} {item.kind}", item) for item in _unique(products, lambda item: (item.colour, item.kind))
    ]
    for name, item in named:
        yield Question(task="colour", prompt=f"What colour is {name}?", answer=str(item.colour))
    for name, item in (*named, *full):
        yield _click(f"Where is {name}?", item, size)
        if item.number is not None:
            yield Question(task="digit", prompt=f"What is the price of {name}?", answer=str(item.number))
    for name, first in full:
        for other, second in full:
            if first is not second:
                yield from _relations(name, first, other, second, size)
    lines = _shelves(scene)
    yield _count("How many products are there?", "products", "shelf", lines, products)
    for kind in sorted({item.kind for item in products} | {"ball"}):
        plural = "boxes" if kind == "box" else kind + "s"
        yield _count(f"How many {plural} are there?", plural, "shelf", lines, [i for i in products if i.kind == kind])
    for colour in sorted({str(item.colour) for item in products} | {"red"}):
        chosen = [item for item in products if item.colour == colour]
        yield _count(f"How many {colour} products are there?", f"{colour} products", "shelf", lines, chosen)


def _click(prompt: str, item: Item, size: tuple[int, int]) -> Question:
    x1, y1, x2, y2 = (item.box[0] / size[0], item.box[1] / size[1], item.box[2] / size[0], item.box[3] / size[1])
    return Question(
        task="click",
        prompt=prompt,
        answer="[" + ", ".join(map(_place, (x1, y1, x2, y2))) + "]",
        target=(x1, y1, x2, y2),
    )


def _place(share: float) -> str:
    """A share of the picture's side, to the nearest twentieth: no item is so small that this moves its centre out."""
    return f"{round(20 * share) / 20:.2f}"


def _relations(name: str, first: Item, other: str, second: Item, size: tuple[int, int]) -> Iterator[Question]:
    """Left or right, above or below: asked only where the centres are clearly apart on that axis."""
    for axis, words, unit in ((0, ("left", "right"), "x"), (1, ("above", "below"), "y")):
        a, b = first.centre[axis] / size[axis], second.centre[axis] / size[axis]
        if abs(a - b) < 0.08 or abs(first.centre[axis] - second.centre[axis]) < 12:
            continue
        smaller = a < b
        ask_for = f"left or right of {other}" if axis == 0 else f"above or below {other}"
        thinking = (
            f"{name[4:]}: {unit} {_place(a)}. {other[4:]}: {unit} {_place(b)}. {'Smaller' if smaller else 'Larger'}."
        )
        yield Question(task="relation", prompt=f"Is {name} {ask_for}?", answer=words[not smaller], thinking=thinking)


def _lines(buttons: list[Item]) -> list[list[Item]]:
    """Buttons grouped into rows from the top: a row ends where the next button starts below its middle."""
    lines: list[list[Item]] = []
    for button in sorted(buttons, key=lambda item: item.centre[1]):
        if lines and button.box[1] < lines[-1][0].centre[1]:
            lines[-1].append(button)
        else:
            lines.append([button])
    return lines


def _shelves(scene: Scene) -> list[list[Item]]:
    height = scene.picture.size[1] / max(1, scene.rows)
    return [[i for i in scene.products if int((i.box[3] - 2) / height) == row] for row in range(scene.rows)]


def _count(prompt: str, noun: str, line: str, lines: list[list[Item]], chosen: list[Item]) -> Question:
    parts = [sum(item in chosen for item in members) for members in lines]
    steps = ", ".join(f"{line} {k + 1}: {part}" for k, part in enumerate(parts))
    total = sum(parts)
    return Question(task="count", prompt=prompt, answer=str(total), thinking=f"{noun}. {steps}. Total {total}.")
