"""The ways to answer one request: what of it is given up, and how long its parts take then."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from phiedge.bundle import ModelFacts
from phiedge.runtime.budget import Budget, Sacrifice
from phiedge.runtime.images import PictureSize
from phiedge.runtime.latency_model import NOTHING, Estimate, LatencyModel
from phiedge.runtime.preprocess import Grid, PatchBudget, choose_grid
from phiedge.runtime.prompt import ThinkMode
from phiedge.runtime.reuse import NOTHING_KEPT, Kept

_FINE = 64
"""The most tokens of a picture that fit are found to so fine a share, as looking for them takes time, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as far as its time is concerned.

    `closing_tokens` is what closing a thinking takes; `known_grids` need no new positions; `spent_ms` has passed since
    the call. `form_tokens` is what the shortest answer of a form takes. `usual_thinking_tokens` is what the model
    seldom thought longer than before, None where nothing is known. `kept` tells what is there from requests before,
    with pictures on these grids.
    """

    facts: ModelFacts
    context: int
    text_tokens: int
    pictures: Sequence[PictureSize]
    max_visual_tokens: int | None
    think: ThinkMode
    max_new_tokens: int
    closing_tokens: int
    known_grids: frozenset[Grid]
    spent_ms: float
    form_tokens: int = 0
    usual_thinking_tokens: int | None = None
    kept: Callable[[tuple[Grid, ...]], Kept] = lambda grids: NOTHING_KEPT

    def answer_room(self, budget: Budget) -> int:
        """The tokens that are kept for the answer."""
        return max(self.form_tokens, min(budget.answer_reserve, self.max_new_tokens))

    def grids(self, cap: int | None) -> tuple[Grid, ...]:
        """The grids of all pictures, each under `cap` tokens."""
        budget = PatchBudget.from_facts(self.facts, cap=cap)
        return tuple(choose_grid(picture.width, picture.height, budget) for picture in self.pictures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What comes before the first token, with pictures under one cap."""

    cap: int | None
    grids: tuple[Grid, ...]
    rows: int
    chunk_tokens: int
    preprocess: Estimate
    vision: Estimate
    prefill: Estimate
    whole: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to do it, and how long its parts take."""

    reading: Reading
    think: ThinkMode
    given_up: tuple[Sacrifice, ...]
    answer_tokens: int
    closing: Estimate
    answer: Estimate
    last_context: int
    model: LatencyModel

    @property
    def until_first_token(self) -> Estimate:
        """All before the first token."""
        return self.model.together(self.reading.whole)

    @property
    def least(self) -> Estimate:
        """All that must fit."""
        return self.model.together(self.reading.whole + self.closing + self.answer)

    @property
    def slowest_token_ms(self) -> float:
        """What one token seldom exceeds, at the end of the answer."""
        return self.model.one_step(self.last_context).high_ms


class Ways:
    """The ways to answer a request within a budget, by one latency model.

    Who waits for the answer waits for this, too: what was computed of a picture under one cap is kept.
    """

    def __init__(self, asked: Asked, budget: Budget, model: LatencyModel) -> None:
        self.asked, self.budget, self.model = asked, budget, model
        self._readings: dict[int | None, Reading] = {}
        self._grids: dict[int | None, tuple[Grid, ...]] = {}

    def bolder(self, caution: float) -> "Ways":
        """The same by so much of the excess of a whole request, which is not in that of its parts."""
        ways = Ways(self.asked, self.budget, replace(self.model, joint=caution * self.model.joint))
        ways._readings = self._readings
        return ways

    def with_room(self, tokens: int) -> "Ways":
        """The same with no more room for the answer, except for what its form takes."""
        ways = Ways(replace(self.asked, max_new_tokens=min(tokens, self.asked.max_new_tokens)), self.budget, self.model)
        ways._readings = self._readings
        return ways

    def slowed(self, factor: float) -> "Ways":
        """The same where everything takes `factor` times as long."""
        if factor == 1:
            return self
        ways = Ways(self.asked, self.budget, self.model.slowed(factor))
        ways._grids = self._grids
        return ways

    def feasible(self) -> Way:
        """The way that gives up least of those that meet the budget; where none does, the one that gives up most."""
        may_give_up = self.budget.may_give_up
        way = self.best(())
        if not may_give_up or not self.lacks(way):
            return way
        cheapest = self._cheapest(may_give_up)
        if self.lacks(cheapest):
            return cheapest
        for count in range(1, len(may_give_up) + 1):
            way = self.best(may_give_up[:count])
            if not self.lacks(way):
                break
        return way

    def best(self, given_up: tuple[Sacrifice, ...]) -> Way:
        """The way that gives up no more than that, and of the pictures as little as will do, or else all it may."""
        think: ThinkMode = "off" if "thinking" in given_up else self.asked.think
        whole = self.way(self.asked.max_visual_tokens, think, given_up)
        if "visual" not in given_up or not self.asked.pictures or not self.lacks(whole):
            return whole
        found = self._cheapest(given_up)
        if self.lacks(found):
            return found
        low, high = self._fewest(), max(grid.tokens for grid in whole.reading.grids)
        while high - low > 1 + high // _FINE:
            middle = (low + high) // 2
            tried = self.way(middle, think, given_up)
            if self.lacks(tried):
                high = middle
            else:
                low, found = middle, tried
        return found

    def _cheapest(self, given_up: tuple[Sacrifice, ...]) -> Way:
        """The way that gives up all of that, as far as it may."""
        smaller = "visual" in given_up and bool(self.asked.pictures)
        cap = self._fewest() if smaller else self.asked.max_visual_tokens
        return self.way(cap, "off" if "thinking" in given_up else self.asked.think, given_up)

    def _fewest(self) -> int:
        """The fewest tokens of a picture, and no more than the largest has without a limit."""
        least, floor = self.asked.facts.min_num_patches, self.budget.min_visual_tokens
        return min(least if floor is None else floor, max(grid.tokens for grid in self.grids_as_asked))

    @property
    def grids_as_asked(self) -> tuple[Grid, ...]:
        """The grids of the pictures where nothing of them is given up."""
        return self._reading(self.asked.max_visual_tokens).grids

    def way(self, cap: int | None, think: ThinkMode, given_up: tuple[Sacrifice, ...]) -> Way:
        """The way with pictures under `cap` tokens."""
        asked, budget, model = self.asked, self.budget, self.model
        reading = self._reading(cap)
        answer_tokens = asked.answer_room(budget)
        closing_tokens = 0 if think == "off" else asked.closing_tokens + (budget.min_think_tokens or 0)
        first = min(reading.rows + 1, asked.context)
        return Way(
            reading=reading,
            think=think,
            given_up=given_up,
            answer_tokens=answer_tokens,
            closing=model.steps(closing_tokens, first),
            answer=model.steps(answer_tokens, first + closing_tokens),
            last_context=first + closing_tokens + answer_tokens,
            model=model,
        )

    def lacks(self, way: Way) -> dict[str, tuple[float, float]]:
        """By the name of each limit that is not met: the limit, and what is needed."""
        budget, spent_ms = self.budget, self.asked.spent_ms
        found = dict[str, tuple[float, float]]()
        if budget.deadline_ms is not None:
            found["deadline_ms"] = budget.deadline_ms, spent_ms + way.least.high_ms
        if budget.ttft_ms is not None:
            found["ttft_ms"] = budget.ttft_ms, spent_ms + way.until_first_token.high_ms
        if budget.token_ms is not None:
            found["token_ms"] = budget.token_ms, way.slowest_token_ms
        return {name: (limit, needed) for name, (limit, needed) in found.items() if needed > limit}

    def _reading(self, cap: int | None) -> Reading:
        if cap not in self._readings:
            self._readings[cap] = self._read(cap)
        return self._readings[cap]

    def _read(self, cap: int | None) -> Reading:
        asked, model = self.asked, self.model
        if cap not in self._grids:
            self._grids[cap] = asked.grids(cap)
        grids = self._grids[cap]
        kept = asked.kept(grids)
        preprocess, vision = model.around(), NOTHING
        for place, (picture, grid) in enumerate(zip(asked.pictures, grids, strict=True)):
            if place in kept.pictures:
                continue
            preprocess += model.picture(
                pixels=picture.width * picture.height,
                patches=grid.tokens,
                encoded=picture.encoded,
                grid_is_known=grid in asked.known_grids,
            )
            vision += model.encoding(grid.tokens)
        rows = asked.text_tokens + sum(grid.tokens for grid in grids)
        chunk_tokens = model.best_chunk(rows - kept.rows)
        prefill = model.prefill(rows, past=kept.rows, chunk_tokens=chunk_tokens)
        return Reading(
            cap=cap,
            grids=grids,
            rows=rows,
            chunk_tokens=chunk_tokens,
            preprocess=preprocess,
            vision=vision,
            prefill=prefill,
            whole=preprocess + vision + prefill,
        )
