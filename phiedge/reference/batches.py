"""What one training step learns from: pictures of one size, questions about each, and what stands at every patch.

All questions about a picture are packed behind its rows; each sees the picture and itself only, at the positions that
it would have alone, so that it is trained exactly as it will be asked. Arrays only: no torch, no weights.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from phiedge.reference.blueprint import MAX_NUM_PATCHES, MIN_NUM_PATCHES, SYSTEM
from phiedge.reference.questions import Question, ask
from phiedge.reference.scenes import COLOURS, KINDS, LABELS, SHAPES, Item, Scene, draw_scene, random_size
from phiedge.runtime.preprocess import Grid, PatchBudget, Patchifier, fit_picture

Box: TypeAlias = tuple[float, float, float, float]  # sides as shares of the picture
Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float32]

IGNORE = -100
NOWHERE: Box = (math.nan, math.nan, math.nan, math.nan)
GLYPHS = "".join(sorted({*"0123456789", *"".join(LABELS)}))
# What linear heads are asked about each visual row, and into how many classes (sides, for the box).
HEADS = {
    "kind": len(KINDS) + 1,
    "colour": len(COLOURS),
    "label": len(LABELS),
    "number": 10,
    "left_glyph": len(GLYPHS),
    "right_glyph": len(GLYPHS),
    "box": 4,
}
THINK, END_THINK, NOTHINK, END = "<think>", "</think>", "<|dummy_84|>", "<|im_end|>"
_SCENES_PER_SEED = 1000
_COVERED = 0.6  # the share of a patch's side that an item may leave free and still own the patch

# How often a task's reply thinks. Relations do so by themselves and the others do not; the rest of each was forced.
_THINKING = {"relation": 0.7, "count": 0.2}
_THINKING_ELSEWHERE = 0.04
_PLAIN_THOUGHT = "Look."

_BUDGET = PatchBudget(patch_size=16, min_patches=MIN_NUM_PATCHES, max_patches=MAX_NUM_PATCHES)
_PATCHIFIER = Patchifier(_BUDGET.patch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """b pictures of n rows each; m is the length of the longest pack of questions.

    `before`: token ids before the picture. `segment` counts the questions of a pack from 1, 0 is padding; `offset` is
    the place inside a question; `target` the next token where it is trained, else IGNORE; `dense` what stands at each
    row, by head.
    """

    grid: Grid
    patches: Floats  # [b, n, 768]
    before: tuple[int, ...]
    tokens: Integers  # [b, m]
    segment: Integers  # [b, m]
    offset: Integers  # [b, m]
    target: Integers  # [b, m]
    weight: Floats  # [b, m]
    mentioned: Floats  # [b, m, 4], sides as shares of the picture
    dense: dict[str, npt.NDArray[Any]]  # [b, n]; "box" is [b, n, 4]
    tasks: tuple[tuple[str, ...], ...]  # of each question of each pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """The questions about one picture, one behind the other; lists as in `Batch`."""

    tokens: list[int]
    segment: list[int]
    offset: list[int]
    target: list[int]
    weight: list[float]
    mentioned: list[Box]
    tasks: tuple[str, ...]


def make_batch(tokenizer: Tokenizer, seed: int, pictures: int, questions: int) -> Batch:
    """The batch of a seed: `pictures` scenes of one size, up to `questions` about each."""
    rng = np.random.default_rng([1, seed])
    size = random_size(rng)
    scenes = [draw_scene(seed * _SCENES_PER_SEED + k, size=size) for k in range(pictures)]
    fitted = [fit_picture(np.asarray(scene.picture), _BUDGET) for scene in scenes]
    grid = fitted[0].grid
    patches = np.empty((pictures, grid.tokens, _PATCHIFIER.row_length), np.float32)
    for picture, out in zip(fitted, patches, strict=True):
        _PATCHIFIER.write(picture, out)
    packs = [pack(tokenizer, rng, ask(scene, rng, questions), names(scene)) for scene in scenes]
    length = 16 * math.ceil(max(len(p.tokens) for p in packs) / 16)
    head = f"<|im_start|>system<|im_sep|>{SYSTEM}{END}\n<|im_start|>user<|im_sep|>"
    dense = [dense_targets(scene, grid) for scene in scenes]
    return Batch(
        grid=grid,
        patches=patches,
        before=tuple(tokenizer.encode(head, add_special_tokens=False).ids),
        tokens=_padded([p.tokens for p in packs], length, 0),
        segment=_padded([p.segment for p in packs], length, 0),
        offset=_padded([p.offset for p in packs], length, 0),
        target=_padded([p.target for p in packs], length, IGNORE),
        weight=_padded([p.weight for p in packs], length, 0).astype(np.float32),
        mentioned=np.array([[*p.mentioned, *[NOWHERE] * (length - len(p.tokens))] for p in packs], np.float32),
        dense={name: np.stack([d[name] for d in dense]) for name in HEADS},
        tasks=tuple(p.tasks for p in packs),
    )


def pack(
    tokenizer: Tokenizer, rng: np.random.Generator, questions: Sequence[Question], boxes: Mapping[str, Box]
) -> Pack:
    """Put tokenised questions and replies behind each other; `boxes` is what `names` gives for their scene."""
    packed = Pack(tokens=[], segment=[], offset=[], target=[], weight=[], mentioned=[], tasks=())
    for number, question in enumerate(questions, start=1):
        reply, forced = _reply(rng, question)
        asked = tokenizer.encode(
            f"\n{question.prompt}{END}\n<|im_start|>assistant<|im_sep|>\n", add_special_tokens=False
        )
        answered = tokenizer.encode(reply, add_special_tokens=False)
        length = len(asked.ids) + len(answered.ids)
        trained = [IGNORE] * len(asked.ids) + ([IGNORE, *answered.ids[1:]] if forced else answered.ids)
        packed.tokens.extend(asked.ids + answered.ids)
        packed.segment.extend([number] * length)
        packed.offset.extend(range(length))
        packed.target.extend([*trained[1:], IGNORE])
        packed.weight.extend([_token_weight(len(answered.ids))] * length)
        packed.mentioned.extend(_mentions(asked, f"\n{question.prompt}", boxes))
        thought = reply.partition(END_THINK)[0] if reply.startswith(THINK) else ""
        packed.mentioned.extend(_mentions(answered, thought, boxes))
    return replace(packed, tasks=tuple(question.task for question in questions))


def names(scene: Scene) -> dict[str, Box]:
    """What questions and thoughts call the things of a scene, where only one thing is called so, and its box."""
    buttons, products, (width, height) = scene.of_kind("button"), scene.products, scene.picture.size
    called = [(str(item.label), item) for item in buttons] + [(f"{item.colour} button", item) for item in buttons]
    called += [(f"{item.colour} {item.kind}", item) for item in products]
    called += [(f"the {item.kind}", item) for item in products]
    often = Counter(name for name, _ in called)
    return {
        name: (item.box[0] / width, item.box[1] / height, item.box[2] / width, item.box[3] / height)
        for name, item in called
        if often[name] == 1
    }


def _mentions(encoding: Encoding, text: str, boxes: Mapping[str, Box]) -> list[Box]:
    """For each token, the box of the thing whose name in `text`, the encoding's beginning, ends with it."""
    found = [NOWHERE] * len(encoding.ids)
    for name, box in boxes.items():
        for match in re.finditer(rf"\b{name}\b", text):
            token = encoding.char_to_token(match.end() - 1)
            assert token is not None, f"{name!r} has no token"
            found[token] = box
    return found


def _reply(rng: np.random.Generator, question: Question) -> tuple[str, bool]:
    """The assistant's turn, and whether its first token, the mode, was forced on it: then it is not trained."""
    think = rng.random() < _THINKING.get(question.task, _THINKING_ELSEWHERE)
    by_itself = question.task == "relation"
    if think:
        return f"{THINK}{question.thinking or _PLAIN_THOUGHT}{END_THINK}{question.answer}{END}", think != by_itself
    return f"{NOTHINK}{question.answer}{END}", think != by_itself


def _token_weight(length: int) -> float:
    """The weight of each token of a reply in the loss: a word's, a box's, a chain of thought's."""
    return 0.5 if length <= 8 else 0.3 if length <= 27 else 0.15


def _padded(rows: Sequence[Sequence[float]], length: int, fill: int) -> npt.NDArray[Any]:
    return np.array([[*row, *[fill] * (length - len(row))] for row in rows])


def dense_targets(scene: Scene, grid: Grid) -> dict[str, npt.NDArray[Any]]:
    """What stands at each patch, by head; the box is in shares of the picture."""
    out: dict[str, npt.NDArray[Any]] = {name: np.full(grid.tokens, IGNORE, np.int64) for name in HEADS}
    out["kind"][:] = 0
    out["box"] = np.full((grid.tokens, 4), np.nan, np.float32)
    for item in sorted(scene.items, key=lambda item: item.kind not in SHAPES):
        share = np.array(item.box) / np.array([*scene.picture.size] * 2)
        across = _covered(share[0] * grid.columns, share[2] * grid.columns, grid.columns)
        down = _covered(share[1] * grid.rows, share[3] * grid.rows, grid.rows)
        for place in (row * grid.columns + column for row in down for column in across):
            _describe(out, place, item)
            out["box"][place] = share
        for glyph in item.glyphs:
            column = glyph.x / scene.picture.width * grid.columns
            row = glyph.y / scene.picture.height * grid.rows
            if 0 <= column < grid.columns and 0 <= row < grid.rows:
                half = "left_glyph" if column % 1 < 0.5 else "right_glyph"
                out[half][int(row) * grid.columns + int(column)] = GLYPHS.index(glyph.character)
    return out


def _covered(low: float, high: float, count: int) -> range:
    """The patches along one axis that an item from `low` to `high` owns: at least one."""
    first = max(0, math.floor(low + _COVERED))
    return range(first, min(count, max(first + 1, math.ceil(high - _COVERED))))


def _describe(out: dict[str, npt.NDArray[Any]], place: int, item: Item) -> None:
    out["kind"][place] = KINDS.index(item.kind) + 1
    out["colour"][place] = IGNORE if item.colour is None else list(COLOURS).index(item.colour)
    out["label"][place] = IGNORE if item.label is None else LABELS.index(item.label)
    out["number"][place] = IGNORE if item.number is None else item.number
