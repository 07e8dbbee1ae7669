"""Turns a request into what the session runs: tokens, pictures at their size, rows, and the keeper of its budget."""

from collections.abc import Sequence
from dataclasses import dataclass

from phiedge.runtime.control import Control
from phiedge.runtime.deadline import FREE, Free
from phiedge.runtime.forms.grammar import Grammar, check_room
from phiedge.runtime.images import ImageSource, PictureSize, listed, measure_images
from phiedge.runtime.known_pictures import KnownPictures
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.merge import RowPlan, plan_rows
from phiedge.runtime.preprocess import Grid, Picture
from phiedge.runtime.prompt import Prompt, ThinkMode
from phiedge.runtime.request import Request
from phiedge.runtime.reuse import NOTHING_KEPT, Kept, PictureKey, RowIds
from phiedge.runtime.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request whose contents were all accepted: its tokens, the layout of its rows, its pictures, its keeper.

    `kept` is what of it is there from requests before. A picture of which nothing is to compute is None. `keys` say
    what the pictures are and `row_ids` what the rows are, where anything is kept at all.
    """

    prompt: Prompt
    plan: RowPlan
    pictures: list[Picture | None]
    keeper: Free
    kept: Kept = NOTHING_KEPT
    keys: tuple[PictureKey, ...] = ()
    row_ids: RowIds | None = None


def prepare(
    model: LoadedModel,
    request: Request,
    watch: Stopwatch,
    *,
    room: int,
    control: Control | None = None,
    reuse: bool = False,
) -> Prepared:
    """Every refusal of a request happens here; one with a budget is admitted before its pictures are decoded.

    `reuse` says that what is kept from requests before may be used.
    """
    with watch.measure("preprocess"):
        grammar = None if request.form is None else model.grammars.compile(request.form)
        sources = listed(request.images)
        known = KnownPictures(model, sources) if reuse and model.memory is not None else None
        prompt, keeper, cap = _admitted(model, request, control, sources, known, watch.started_ns)
        if known is not None:
            prepared = _with_what_is_kept(model, request, prompt, keeper, known, cap=cap, room=room)
        else:
            pictures = model.read_pictures(sources, max_visual_tokens=cap)
            plan = _plan(model, request, prompt, [picture.grid for picture in pictures], room)
            prepared = Prepared(prompt=prompt, plan=plan, pictures=list(pictures), keeper=keeper)
        if grammar is not None:
            _check_form(grammar, request, prepared, model.context)
    return prepared


def _admitted(
    model: LoadedModel,
    request: Request,
    control: Control | None,
    sources: Sequence[ImageSource],
    known: KnownPictures | None,
    begun_ns: int,
) -> tuple[Prompt, Free, int | None]:
    """The prompt, the keeper and the most tokens of a picture, as admission decided them."""
    prompt = _render(model, request, len(sources), request.think)
    if control is None or request.budget is None:
        return prompt, FREE, request.max_visual_tokens
    sizes: Sequence[PictureSize] = measure_images(sources) if known is None else known.sizes

    def kept(grids: tuple[Grid, ...]) -> Kept:
        return NOTHING_KEPT if known is None else known.find(_laid_out(model, prompt, grids), grids)

    keeper = control.keeper(model, request, request.budget, prompt=prompt, pictures=sizes, begun_ns=begun_ns, kept=kept)
    if keeper.plan.think != request.think and not request.raw:
        prompt = _render(model, request, len(sources), keeper.plan.think)
    return prompt, keeper, keeper.plan.max_visual_tokens


def _with_what_is_kept(
    model: LoadedModel,
    request: Request,
    prompt: Prompt,
    keeper: Free,
    known: KnownPictures,
    *,
    cap: int | None,
    room: int,
) -> Prepared:
    """The same where something may be there from before: only what is not is read."""
    known.fit(cap)
    plan = _plan(model, request, prompt, [key.grid for key in known.keys], room)
    kept = known.find(plan, [key.grid for key in known.keys])
    pictures = [None if place in kept.pictures else known.picture(place) for place in range(len(known.keys))]
    return Prepared(
        prompt=prompt,
        plan=plan,
        pictures=pictures,
        keeper=keeper,
        kept=kept,
        keys=known.keys,
        row_ids=known.row_ids(plan),
    )


def _plan(model: LoadedModel, request: Request, prompt: Prompt, grids: Sequence[Grid], room: int) -> RowPlan:
    cut_at = model.facts.publisher_max_length if request.truncate_like_publisher else None
    return plan_rows(prompt, grids, context=model.context, room=room, cut_at=cut_at)


def _laid_out(model: LoadedModel, prompt: Prompt, grids: Sequence[Grid]) -> RowPlan | None:
    """The rows of a prompt that is not accepted yet; None if it does not even fit."""
    if prompt.text_tokens + sum(grid.tokens for grid in grids) > model.context or prompt.images != len(grids):
        return None
    return plan_rows(prompt, grids, context=model.context, room=0, cut_at=None)


def _check_form(grammar: Grammar, request: Request, prepared: Prepared, context: int) -> None:
    marks = int(prepared.prompt.starts_thinking)  # the end of the thinking
    room = context - prepared.plan.length - marks
    check_room(grammar, max_new_tokens=request.max_new_tokens - marks, room=room)


def _render(model: LoadedModel, request: Request, images: int, think: ThinkMode) -> Prompt:
    if request.raw:
        return model.prompts.raw(request.prompt, images=images)
    return model.prompts.chat(request.prompt, images=images, think=think, history=request.history)
