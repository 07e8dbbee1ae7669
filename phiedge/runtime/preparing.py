"""Turns a request into what the session runs: tokens, pictures at their size, rows, and the keeper of its budget."""

from dataclasses import dataclass

from phiedge.runtime.control import Control
from phiedge.runtime.deadline import FREE, Free
from phiedge.runtime.forms.grammar import check_room
from phiedge.runtime.images import listed, measure_images
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.merge import RowPlan, plan_rows
from phiedge.runtime.preprocess import Picture
from phiedge.runtime.prompt import Prompt, ThinkMode
from phiedge.runtime.request import Request
from phiedge.runtime.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request whose contents were all accepted: its tokens, the layout of its rows, its pictures, its keeper."""

    prompt: Prompt
    plan: RowPlan
    pictures: list[Picture]
    keeper: Free


def prepare(
    model: LoadedModel, request: Request, watch: Stopwatch, *, room: int, control: Control | None = None
) -> Prepared:
    """Every refusal of a request happens here; one with a budget is admitted before its pictures are decoded."""
    with watch.measure("preprocess"):
        grammar = None if request.form is None else model.grammars.compile(request.form)
        keeper: Free = FREE
        if control is None or request.budget is None:
            pictures = model.read_pictures(request.images, max_visual_tokens=request.max_visual_tokens)
            prompt = _render(model, request, len(pictures), request.think)
        else:
            sources = listed(request.images)
            sizes = measure_images(sources)
            prompt = _render(model, request, len(sources), request.think)
            kept = control.keeper(
                model, request, request.budget, prompt=prompt, pictures=sizes, begun_ns=watch.started_ns
            )
            if kept.plan.think != request.think and not request.raw:
                prompt = _render(model, request, len(sources), kept.plan.think)
            pictures = model.read_pictures(sources, max_visual_tokens=kept.plan.max_visual_tokens)
            keeper = kept
        plan = plan_rows(
            prompt,
            [picture.grid for picture in pictures],
            context=model.context,
            room=room,
            cut_at=model.facts.publisher_max_length if request.truncate_like_publisher else None,
        )
        if grammar is not None:
            marks = int(prompt.starts_thinking)  # the end of the thinking
            check_room(grammar, max_new_tokens=request.max_new_tokens - marks, room=model.context - plan.length - marks)
    return Prepared(prompt=prompt, plan=plan, pictures=pictures, keeper=keeper)


def _render(model: LoadedModel, request: Request, images: int, think: ThinkMode) -> Prompt:
    if request.raw:
        return model.prompts.raw(request.prompt, images=images)
    return model.prompts.chat(request.prompt, images=images, think=think, history=request.history)
