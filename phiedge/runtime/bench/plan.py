"""What is measured: contexts, lengths of prompts, sizes of pictures, and how long it may take.

Whatever cannot be measured is refused here, before anything is. What nobody asked for is chosen to fit the bundle.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

from phiedge.bundle import ModelFacts
from phiedge.errors import ContextLengthError, UsageError
from phiedge.runtime.preprocess import Grid, PatchBudget, choose_grid

DEFAULT_SECONDS = 60.0
DEFAULT_STEPS = 500
DEFAULT_PICTURES = ("256x256", "640x480", "1280x720")
_SHORTEST, _TIMES = 64, 4  # lengths that are not asked for: 64, 256, 1024, ...
_LARGEST_SIDE = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureCase:
    """A picture of `width` x `height` pixels, and the grid of patches that the model sees of it."""

    width: int
    height: int
    grid: Grid

    @property
    def name(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """Cases in ascending order. What was asked for is measured at least once; the rest where `seconds` allow it.

    `steps` is the most decode steps at one context.
    """

    contexts: tuple[int, ...]
    prefill: tuple[int, ...]
    pictures: tuple[PictureCase, ...]
    prefill_asked: bool
    pictures_asked: bool
    steps: int
    seconds: float


def plan_bench(
    facts: ModelFacts,
    *,
    max_context: int,
    contexts: Sequence[int] | None = None,
    prefill: Sequence[int] | None = None,
    pictures: Sequence[str] | None = None,
    steps: int = DEFAULT_STEPS,
    seconds: float = DEFAULT_SECONDS,
) -> BenchPlan:
    """A plan for a session of `max_context` positions. Raises `UsageError`, and `ContextLengthError` with the numbers.

    An empty sequence measures none of a kind.
    """
    if steps < 1:
        raise UsageError(f"steps must be at least 1, not {steps}", remedy=f"the default is {DEFAULT_STEPS}")
    if not 0 < seconds < float("inf"):
        raise UsageError(
            f"seconds must be a number above 0, not {seconds:g}", remedy=f"the default is {DEFAULT_SECONDS:g}"
        )
    defaults = _lengths(max_context)
    budget = PatchBudget.from_facts(facts)
    plan = BenchPlan(
        contexts=defaults if contexts is None else _checked("context", contexts, max_context),
        prefill=defaults if prefill is None else _checked("prompt", prefill, max_context),
        pictures=_default_pictures(budget, max_context) if pictures is None else _pictures(pictures, budget),
        prefill_asked=prefill is not None,
        pictures_asked=pictures is not None,
        steps=steps,
        seconds=seconds,
    )
    if not (plan.contexts or plan.prefill or plan.pictures):
        raise UsageError("there is nothing to measure", remedy="name contexts, prompt lengths or pictures")
    for case in plan.pictures:
        if case.grid.tokens > max_context:
            raise ContextLengthError(
                f"a picture of {case.name} becomes {case.grid.tokens} positions, the context has {max_context}",
                remedy="measure smaller pictures, or open a larger context",
            )
    return plan


def _lengths(max_context: int) -> tuple[int, ...]:
    lengths = []
    length = _SHORTEST
    while length < max_context:
        lengths.append(length)
        length *= _TIMES
    return (*lengths, max_context)


def _checked(what: str, lengths: Sequence[int], max_context: int) -> tuple[int, ...]:
    for length in lengths:
        if length < 1:
            raise UsageError(f"a {what} has at least 1 position, not {length}", remedy="ask for a larger one")
        if length > max_context:
            raise ContextLengthError(
                f"a {what} of {length} positions was asked, the session has {max_context}",
                remedy="ask for less, or open a larger context",
            )
    return tuple(sorted(set(lengths)))


def _default_pictures(budget: PatchBudget, max_context: int) -> tuple[PictureCase, ...]:
    """Those that fit; of sizes that become as many patches, the last."""
    by_patches = {case.grid.tokens: case for case in map(picture_case, DEFAULT_PICTURES, repeat(budget))}
    return tuple(case for patches, case in sorted(by_patches.items()) if patches <= max_context)


def _pictures(sizes: Sequence[str], budget: PatchBudget) -> tuple[PictureCase, ...]:
    """One case for each size, the fewest patches first."""
    cases = {picture_case(size, budget) for size in sizes}
    return tuple(sorted(cases, key=lambda case: (case.grid.tokens, case.width * case.height)))


def picture_case(size: str, budget: PatchBudget) -> PictureCase:
    """A picture of that size, as in `1280x720`, and its grid. Raises `UsageError` for what is no size."""
    width, height = _size(size)
    return PictureCase(width=width, height=height, grid=choose_grid(width, height, budget))


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= width <= _LARGEST_SIDE or not 1 <= height <= _LARGEST_SIDE:
        raise UsageError(
            f"{text!r} is not the size of a picture",
            remedy=f"write width and height, each from 1 to {_LARGEST_SIDE}, as in 1280x720",
        )
    return width, height
