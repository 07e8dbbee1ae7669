"""What a session holds for requests with a budget: the clock, this machine's latency model, and the watchdog."""

from collections.abc import Callable, Sequence

from phiedge.bundle import Bundle
from phiedge.errors import BudgetError, UsageError
from phiedge.runtime.admission import admit, unmeasured
from phiedge.runtime.budget import Budget
from phiedge.runtime.deadline import Keeper
from phiedge.runtime.drift import Drift
from phiedge.runtime.images import PictureSize
from phiedge.runtime.latency_model import LatencyModel
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.pace import ObservedPace, ProfiledPace
from phiedge.runtime.plan import Plan
from phiedge.runtime.preprocess import Grid
from phiedge.runtime.profile.store import Profile, profile_for
from phiedge.runtime.prompt import Prompt
from phiedge.runtime.request import Request
from phiedge.runtime.reuse import NOTHING_KEPT, Kept
from phiedge.runtime.thoughts import Thoughts
from phiedge.runtime.watchdog import Watchdog
from phiedge.runtime.ways import Asked

_SHARE = 1 / 8  # of the newest in what is believed
_FIRST_WRAP_UP_NS, _LONGEST_WRAP_UP_NS = 200_000, 1_000_000  # a pause meanwhile says nothing about the next time


class Control:
    """Admits requests and makes their keepers. The latency model is looked for when the first budget comes."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int | None,
        clock_ns: Callable[[], int],
        latency: LatencyModel | None = None,
    ) -> None:
        self._bundle, self._threads = bundle, threads
        self.clock_ns = clock_ns
        self.watchdog = Watchdog(clock_ns=clock_ns)
        self.profile: Profile | None = None
        """The profile of this machine, once it was looked for and found."""
        self._latency = latency
        self._drift = Drift()
        self.thoughts = Thoughts()
        """How long the model thought in the requests of this session."""
        self._unmeasured: str | None = None
        self._wrap_up_ns: float | None = None
        self._pace: ProfiledPace | ObservedPace | None = None if latency is None else ProfiledPace(latency)

    def prepare(self, model: LoadedModel) -> None:
        """Look for the profile of this machine, once."""
        if self._pace is not None:
            return
        found = profile_for(self._bundle, model, threads=self._threads)
        if isinstance(found, str):
            self._unmeasured, self._pace = found, ObservedPace()
        else:
            self.profile, self._latency, self._pace = found, found.model, ProfiledPace(found.model)

    def keeper(
        self,
        model: LoadedModel,
        request: Request,
        budget: Budget,
        *,
        prompt: Prompt,
        pictures: Sequence[PictureSize],
        begun_ns: int,
        kept: Callable[[tuple[Grid, ...]], Kept] = lambda grids: NOTHING_KEPT,
    ) -> Keeper:
        """Admit a request and give its keeper. `kept` is as of `Asked`. Raises `BudgetError`."""
        self.prepare(model)
        assert self._pace is not None
        closing, extending = _steering(model, budget)
        asked = Asked(
            facts=model.facts,
            context=model.context,
            text_tokens=prompt.text_tokens,
            pictures=pictures,
            max_visual_tokens=request.max_visual_tokens,
            think=request.think,
            max_new_tokens=request.max_new_tokens,
            closing_tokens=len(closing),
            known_grids=model.known_grids,
            form_tokens=_form_tokens(model, request, budget),
            kept=kept,
            usual_thinking_tokens=self.thoughts.usual_tokens,
            spent_ms=(self.clock_ns() - begun_ns) / 1e6,
        )
        return Keeper(
            budget=budget,
            plan=self._plan(asked, budget, model),
            model=self._latency,
            pace=self._pace,
            drift=self._drift,
            closing=closing,
            extending=extending,
            ends=frozenset((model.facts.end_think_token_id, model.facts.bos_token_id, *model.facts.eos_token_ids)),
            begun_ns=begun_ns,
            clock_ns=self.clock_ns,
            wrap_up_ns=self._wrap_up(),
        )

    def wrapped_up(self, spent_ns: int) -> None:
        """Making the result of a request took so long after its last token."""
        known = self._wrap_up()
        self._wrap_up_ns = known + (min(spent_ns, _LONGEST_WRAP_UP_NS) - known) * _SHARE

    def _wrap_up(self) -> float:
        """What it will take, by the last requests; before the first, by what requests take besides their parts."""
        if self._wrap_up_ns is not None:
            return self._wrap_up_ns
        around_ms = 0.0 if self._latency is None else self._latency.around().usual_ms
        return min(_FIRST_WRAP_UP_NS, 1e6 * around_ms)

    def _plan(self, asked: Asked, budget: Budget, model: LoadedModel) -> Plan:
        if self._latency is not None:
            believed, factor = self._drift.applied_to(self._latency)
            try:
                return admit(asked, budget, believed, slowdown=factor, lately=self._drift.lately)
            except BudgetError:
                self._drift.refused(also_by_profile=not _admits(asked, budget, self._latency))
                raise
        assert self._unmeasured is not None
        return unmeasured(asked, budget, chunk_tokens=model.chunk_tokens, reason=self._unmeasured)


def _admits(asked: Asked, budget: Budget, model: LatencyModel) -> bool:
    try:
        admit(asked, budget, model)
    except BudgetError:
        return False
    return True


def _steering(model: LoadedModel, budget: Budget) -> tuple[list[int], list[int]]:
    """The tokens that close a thinking, and those that put its end off."""
    texts = {"closing_text": budget.closing_text, "extending_text": budget.extending_text}
    tokens = {name: model.tokenizer.encode(text) if text else [] for name, text in texts.items()}
    for name, encoded in tokens.items():
        if not model.tokenizer.control_ids.isdisjoint(encoded):
            raise UsageError(
                f"{name} {texts[name]!r} has a control token in it",
                remedy="give plain text; the mark that ends the thinking is added to it",
            )
    return [*tokens["closing_text"], model.facts.end_think_token_id], tokens["extending_text"]


def _form_tokens(model: LoadedModel, request: Request, budget: Budget) -> int:
    """The tokens of the shortest answer of the form, if there is one."""
    if request.form is None:
        return 0
    least = model.grammars.compile(request.form).least_tokens
    if budget.answer_tokens is not None and budget.answer_tokens < least:
        raise UsageError(
            f"answer_tokens {budget.answer_tokens} are kept for an answer of at least {least}, which its form takes",
            remedy=f"give answer_tokens={least} or more",
        )
    return least
