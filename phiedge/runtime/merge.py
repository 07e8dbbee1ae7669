"""Where every row of the decoder's input comes from: text tokens and pictures, one position each, in order.

A picture takes the place of its placeholder with one row per patch; positions simply count up. A prompt that does not
fit is refused with its numbers. The publisher's own code instead cuts a prompt with pictures at a fixed length and
loses its end, which is where the question stands; `cut_at` reproduces that for those who compare.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from phiedge.errors import ContextLengthError
from phiedge.runtime.preprocess import Grid
from phiedge.runtime.prompt import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRows:
    """Rows from `start` on that are embeddings of `tokens`."""

    start: int
    tokens: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRows:
    """Rows from `start` on that are the first `count` of the `whole` features of picture number `picture`."""

    start: int
    picture: int
    count: int
    whole: int


Rows: TypeAlias = TextRows | PictureRows


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPlan:
    """The rows of one prompt, without gaps and in order."""

    rows: tuple[Rows, ...]

    def __post_init__(self) -> None:
        expected = 0
        for part in self.rows:
            assert part.start == expected
            assert part.count > 0
            expected += part.count

    @property
    def text_tokens(self) -> int:
        return sum(part.count for part in self.rows if isinstance(part, TextRows))

    @property
    def visual_tokens(self) -> int:
        return sum(part.count for part in self.rows if isinstance(part, PictureRows))

    @property
    def length(self) -> int:
        return self.text_tokens + self.visual_tokens


def plan_rows(prompt: Prompt, grids: Sequence[Grid], *, context: int, room: int, cut_at: int | None) -> RowPlan:
    """Lay out `prompt` with one grid per picture. `room` is how many positions the answer needs at least.

    `cut_at`, if given, drops what lies beyond that many rows of a prompt with pictures. Raises `ContextLengthError`.
    """
    assert len(grids) == prompt.images
    plan = RowPlan(rows=_lay_out(prompt, grids, cut_at if grids else None))
    if plan.length + room > context:
        left = max(0, context - plan.length)
        raise ContextLengthError(
            f"the prompt has {plan.text_tokens} text tokens and {plan.visual_tokens} visual tokens, "
            f"{plan.length} together; the context has {context} positions, which leaves {left} for the answer",
            remedy=_remedy(plan),
        )
    return plan


def _lay_out(prompt: Prompt, grids: Sequence[Grid], cut_at: int | None) -> tuple[Rows, ...]:
    rows: list[Rows] = []
    start = 0
    for place, piece in enumerate(prompt.pieces):
        kept = piece if cut_at is None else piece[: max(0, cut_at - start)]
        if kept:
            rows.append(TextRows(start=start, tokens=kept))
            start += len(kept)
        if place < len(grids):
            whole = grids[place].tokens
            count = whole if cut_at is None else min(whole, cut_at - start)
            if count > 0:
                rows.append(PictureRows(start=start, picture=place, count=count, whole=whole))
                start += count
    return tuple(rows)


def _remedy(plan: RowPlan) -> str:
    longer = "export with a larger --max-context, or open the session with a larger max_context"
    if plan.visual_tokens > plan.text_tokens:
        return f"give max_visual_tokens to see the pictures smaller, or fewer pictures; or {longer}"
    return f"shorten the prompt; or {longer}"
