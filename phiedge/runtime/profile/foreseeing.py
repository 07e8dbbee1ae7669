"""What the latency profiles of a bundle foresee of a request, without opening the bundle: the plan before the session.

Admission decides here as it does in a session, by the same latency model and in the same words. What a session adds is
what it saw of the machine lately.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from phiedge.bundle import Bundle, ModelFacts
from phiedge.errors import BudgetError
from phiedge.runtime.admission import admit
from phiedge.runtime.budget import LONGEST_MS, Budget
from phiedge.runtime.images import PictureSize
from phiedge.runtime.latency_model import Estimate
from phiedge.runtime.plan import Plan
from phiedge.runtime.profile.identity import differences_here
from phiedge.runtime.profile.store import Profile, stored_profiles
from phiedge.runtime.ways import Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request that is only thought of: `sizes` are those of its pictures in pixels, width and height."""

    facts: ModelFacts
    max_context: int
    sizes: Sequence[tuple[int, int]]
    prompt_tokens: int
    answer_tokens: int
    deadline_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What one profile says. `elsewhere` is what is otherwise on this machine; nothing if the profile is of it.

    `free` is the plan without a deadline, `kept` that with it, None where it is refused, for the reason `refused`;
    `degraded` is what could be had then with fewer visual tokens.
    """

    profile: Profile
    elsewhere: tuple[str, ...]
    token: Estimate
    free: Plan
    kept: Plan | None
    refused: BudgetError | None
    degraded: Plan | None

    @property
    def total_ms(self) -> float:
        """What the whole request seldom exceeds."""
        assert self.free.forecast is not None
        return self.free.forecast.total


def foresee(bundle: Bundle, wanted: Wanted) -> list[Foreseen]:
    """What each profile of `bundle` says of a request that answers at once: those of this machine first, and of these
    the soonest."""
    found = [_by(profile, bundle, wanted) for profile in stored_profiles(bundle)]
    return sorted(found, key=lambda one: (len(one.elsewhere), one.total_ms))


def _by(profile: Profile, bundle: Bundle, wanted: Wanted) -> Foreseen:
    asked = Asked(
        facts=wanted.facts,
        context=wanted.max_context,
        text_tokens=wanted.prompt_tokens,
        pictures=[PictureSize(width=width, height=height, encoded=True) for width, height in wanted.sizes],
        max_visual_tokens=None,
        think="off",
        max_new_tokens=wanted.answer_tokens,
        closing_tokens=0,
        known_grids=frozenset(),
        spent_ms=0.0,
    )
    free = admit(asked, Budget(deadline_ms=LONGEST_MS, answer_tokens=wanted.answer_tokens), profile.model)
    kept, refused, degraded = None, None, None
    if wanted.deadline_ms is not None:
        budget = Budget(deadline_ms=wanted.deadline_ms, answer_tokens=wanted.answer_tokens)
        try:
            kept = admit(asked, budget, profile.model)
        except BudgetError as error:
            refused = error
            degraded = _degraded(asked, budget, profile)
    return Foreseen(
        profile=profile,
        elsewhere=tuple(differences_here(profile.identity, bundle)),
        token=profile.model.one_step(free.rows + max(1, wanted.answer_tokens // 2)),
        free=free,
        kept=kept,
        refused=refused,
        degraded=degraded,
    )


def _degraded(asked: Asked, budget: Budget, profile: Profile) -> Plan | None:
    try:
        return admit(asked, replace(budget, on_infeasible="degrade"), profile.model)
    except BudgetError:
        return None
