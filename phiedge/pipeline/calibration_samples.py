"""From questions with pictures and answers to the sequences that calibration runs: the same road as at inference."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from phiedge.calibration.decoder_layer import TensorReader, read_tensor
from phiedge.calibration.samples import VISUAL, Kind, Picture, Sample
from phiedge.errors import InputError
from phiedge.exporters.checkpoint import TEMPLATE_FILE, TOKENIZER_FILE
from phiedge.exporters.source import ModelSource
from phiedge.exporters.tensors import POSITION_TABLE
from phiedge.runtime.chat_template import ChatTemplate
from phiedge.runtime.images import ImageSource, load_images
from phiedge.runtime.merge import PictureRows, RowPlan, TextRows, plan_rows
from phiedge.runtime.positions import PositionTable
from phiedge.runtime.preprocess import PatchBudget, Patchifier, fit_picture
from phiedge.runtime.preprocess import Picture as FittedPicture
from phiedge.runtime.prompt import Prompt, PromptBuilder, ThinkMode
from phiedge.runtime.tokens import Tokenizer

_ANY_LENGTH = 1 << 31  # whether a sample fits the context is asked of what it has become
HELD_OUT_EVERY = 8  # of the samples one judges; the others are calibrated on


def is_held_out(place: int) -> bool:
    """Whether the example at `place` judges: one of each eight, and not always the same of them.

    Examples often come in turns, and those that judge should be of every kind.
    """
    turn, of_turn = divmod(place, HELD_OUT_EVERY)
    return of_turn == turn % HELD_OUT_EVERY


class CalibrationSource(ModelSource, TensorReader, Protocol):
    """A source that gives any tensor at any time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A question and what a good model says: its thought, if it thinks, and its answer. `told` names it in errors."""

    told: str
    prompt: str
    images: tuple[ImageSource, ...] = ()
    thinking: str | None = None
    answer: str | None = None
    think: ThinkMode = "auto"


class SampleBuilder:
    """Makes samples for one model."""

    def __init__(self, source: CalibrationSource, *, max_context: int) -> None:
        facts = source.config.facts()
        self._facts = facts
        self._tokenizer = Tokenizer(source.path / TOKENIZER_FILE, facts)
        self._prompts = PromptBuilder(ChatTemplate.read(source.path / TEMPLATE_FILE), self._tokenizer, facts)
        self._budget = PatchBudget.from_facts(facts)
        self._patchifier = Patchifier(facts.patch_size)
        self._max_context = max_context
        table = read_tensor(source, POSITION_TABLE).numpy()
        self._positions = PositionTable(table, side=facts.position_grid)

    def build(self, examples: Sequence[Example]) -> list[Sample]:
        """A sample for each example. Raises `InputError` naming the first that cannot be one."""
        samples = [self._sample(place, example) for place, example in enumerate(examples)]
        for sample in samples:
            self._require_fit(sample)
        return samples

    def build_fitting(self, examples: Iterable[Example]) -> list[Sample]:
        """A sample for each example that the context holds: those that nobody chose may be left out."""
        samples: list[Sample] = []
        for example in examples:
            sample = self._sample(len(samples), example)
            if sample.rows <= self._max_context:
                samples.append(sample)
        return samples

    def _require_fit(self, sample: Sample) -> None:
        if sample.rows > self._max_context:
            visual = int((sample.kinds == Kind.VISUAL).sum())
            raise InputError(
                f"{sample.name}: the prompt has {sample.rows - visual} text tokens and {visual} visual tokens, "
                f"{sample.rows} together with what is said to it; the context has {self._max_context} positions",
                remedy="leave it out, make its pictures or texts smaller, or give a larger --max-context",
            )

    def _sample(self, place: int, example: Example) -> Sample:
        try:
            pictures = [fit_picture(pixels, self._budget) for pixels in load_images(example.images)]
            thinks: ThinkMode = "on" if example.thinking is not None else example.think
            prompt = self._prompts.chat(example.prompt, images=len(pictures), think=thinks)
            reply, thought = self._reply(example, thinks)
            whole = Prompt(
                pieces=(*prompt.pieces[:-1], prompt.pieces[-1] + reply), starts_thinking=prompt.starts_thinking
            )
            plan = plan_rows(whole, [p.grid for p in pictures], context=_ANY_LENGTH, room=0, cut_at=None)
        except InputError as error:
            raise InputError(f"{example.told}: {error.message}", remedy=error.remedy) from error
        tokens, kinds = _rows(plan)
        if thought:
            kinds[plan.length - len(reply) : plan.length - len(reply) + thought] = Kind.THINKING
        digest = _digest(pictures)
        return Sample(
            name=example.told,
            tokens=tokens,
            kinds=kinds,
            held_out=is_held_out(place),
            digest=digest,
            load=partial(self._load, example, plan, digest),
        )

    def _reply(self, example: Example, think: ThinkMode) -> tuple[tuple[int, ...], int]:
        """The tokens that are said after the prompt, and how many of them are thought."""
        tokenizer = self._tokenizer
        thought = [] if example.thinking is None else tokenizer.encode(example.thinking + tokenizer.end_think_text)
        if example.answer is None:
            return tuple(thought), len(thought)
        mark = tokenizer.nothink_text if think == "auto" else ""
        return tuple(thought + tokenizer.encode(f"{mark}{example.answer}{tokenizer.eos_text}")), len(thought)

    def _load(self, example: Example, plan: RowPlan, digest: str) -> list[Picture]:
        try:
            pictures = [fit_picture(pixels, self._budget) for pixels in load_images(example.images)]
        except InputError as error:
            raise InputError(f"{example.told}: {error.message}", remedy=error.remedy) from error
        if _digest(pictures) != digest:
            raise InputError(
                f"{example.told}: its pictures are not those that were there when calibration began",
                remedy="leave the files alone meanwhile, and export again",
            )
        loaded = []
        for part in plan.rows:
            if isinstance(part, PictureRows):
                picture = pictures[part.picture]
                patches = np.empty((picture.grid.tokens, self._patchifier.row_length), np.float32)
                self._patchifier.write(picture, patches)
                positions = np.array(self._positions.embed(picture.grid), np.float32)
                loaded.append(Picture(patches=patches, positions=positions, first_row=part.start))
        return loaded


def _digest(pictures: Sequence[FittedPicture]) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(repr(picture.pixels.shape).encode() + picture.pixels.tobytes())
    return digest.hexdigest()


def _rows(
    plan: RowPlan,
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int8]]]:
    tokens = np.full(plan.length, VISUAL, np.int64)
    kinds = np.full(plan.length, Kind.VISUAL, np.int8)
    for part in plan.rows:
        if isinstance(part, TextRows):
            tokens[part.start : part.start + part.count] = part.tokens
            kinds[part.start : part.start + part.count] = Kind.TEXT
    return tokens, kinds
