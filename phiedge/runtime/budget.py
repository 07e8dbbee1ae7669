"""What a caller asks of the clock, and what may be given up for it.

Values only: `admission.py` decides by them, and `deadline.py` keeps them.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from phiedge.errors import UsageError
from phiedge.runtime.prompt import ThinkMode

OnInfeasible: TypeAlias = Literal["refuse", "degrade", "attempt"]
Sacrifice: TypeAlias = Literal["visual", "thinking"]

DEFAULT_ANSWER_TOKENS = 32
"""The room that a deadline keeps for the answer where the caller names none: a sentence, or a few boxes."""

LONGEST_MS = 24 * 3600 * 1000.0
"""A limit above a day is taken for a mistake in its unit."""

_TIMES = ("deadline_ms", "ttft_ms", "token_ms", "think_ms")
_COUNTS = ("answer_tokens", "think_tokens", "min_think_tokens", "min_visual_tokens")
_LIMITS = (*_TIMES, "think_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits for one request, and what to do where they cannot be met; one limit at least is given.

    - `deadline_ms` covers everything from the call to the result. It is kept by ending the answer before it.
    - `ttft_ms` covers everything up to the first token, `token_ms` one token. A request that would not meet them is
      refused; one that was admitted and misses them goes on, and its result says so.
    - `answer_tokens` is the room that a deadline keeps for the answer (`DEFAULT_ANSWER_TOKENS` where none is named).
    - `think` is the mode of requests that leave it to the model: "on", "off", or "auto" as they say themselves.
    - `think_tokens` and `think_ms` are ceilings on the thinking; `min_think_tokens` puts its end off until so many
      tokens were thought, by `extending_text` in place of the end, as long as there is time.
    - `min_visual_tokens` is the fewest that a picture may be seen with when it is made smaller.
    - `on_infeasible`: "refuse" what cannot be met as it was asked; or "degrade" it by giving up, in the order of
      `sacrifices`, "thinking" and "visual" tokens, and refuse what cannot be met even so; or "attempt" that as well,
      without a promise.
    - `closing_text` is what a thinking that ran out of time ends with, before the mark that ends it.
    """

    deadline_ms: float | None = None
    ttft_ms: float | None = None
    token_ms: float | None = None
    answer_tokens: int | None = None
    think: ThinkMode = "auto"
    think_tokens: int | None = None
    think_ms: float | None = None
    min_think_tokens: int | None = None
    min_visual_tokens: int | None = None
    on_infeasible: OnInfeasible = "refuse"
    sacrifices: tuple[Sacrifice, ...] = ("thinking", "visual")
    closing_text: str = ""
    extending_text: str = "Wait"

    def __post_init__(self) -> None:
        if all(getattr(self, name) is None for name in _LIMITS):
            raise UsageError("a budget needs at least one limit", remedy=f"give one of {', '.join(_LIMITS)}")
        for name in _TIMES:
            _check_time(name, getattr(self, name))
        for name in _COUNTS:
            _check_count(name, getattr(self, name))
        self._check_limits_agree()
        self._check_sacrifices()
        self._check_whole()

    @property
    def answer_reserve(self) -> int:
        """The tokens that are kept for the answer."""
        return DEFAULT_ANSWER_TOKENS if self.answer_tokens is None else self.answer_tokens

    @property
    def may_give_up(self) -> tuple[Sacrifice, ...]:
        """What may be given up, in order; nothing under "refuse"."""
        return () if self.on_infeasible == "refuse" else self.sacrifices

    def _check_limits_agree(self) -> None:
        deadline_ms = self.deadline_ms
        for name in ("ttft_ms", "token_ms", "think_ms"):
            value = getattr(self, name)
            if deadline_ms is not None and value is not None and value > deadline_ms:
                raise UsageError(
                    f"{name} {value} is later than deadline_ms {deadline_ms}",
                    remedy=f"give a {name} within the deadline, or leave it out",
                )
        least, most = self.min_think_tokens, self.think_tokens
        if least is not None and most is not None and least > most:
            raise UsageError(
                f"min_think_tokens {least} is more than think_tokens {most}",
                remedy="raise think_tokens, or lower min_think_tokens",
            )

    def _check_sacrifices(self) -> None:
        if self.on_infeasible not in get_args(OnInfeasible):
            raise UsageError(
                f"on_infeasible must be one of {', '.join(get_args(OnInfeasible))}, not {self.on_infeasible!r}"
            )
        known = get_args(Sacrifice)
        wrong = not self.sacrifices or len(set(self.sacrifices)) < len(self.sacrifices)
        if wrong or any(name not in known for name in self.sacrifices):
            raise UsageError(
                f"sacrifices must be some of {', '.join(known)} in an order, each once, not {self.sacrifices!r}"
            )

    def _check_whole(self) -> None:
        """Refuse what would have no effect without something else."""
        self._check_think()
        if self.answer_tokens is not None and self.deadline_ms is None:
            raise UsageError(
                f"answer_tokens {self.answer_tokens} are kept out of a deadline, and there is none",
                remedy="give deadline_ms, or leave answer_tokens out",
            )
        if self.on_infeasible != "refuse" and all(
            limit is None for limit in (self.deadline_ms, self.ttft_ms, self.token_ms)
        ):
            raise UsageError(
                f"on_infeasible={self.on_infeasible!r} has nothing to meet",
                remedy="give deadline_ms, ttft_ms or token_ms",
            )
        if self.min_visual_tokens is not None and "visual" not in self.may_give_up:
            raise UsageError(
                f"min_visual_tokens {self.min_visual_tokens} has no effect, as no picture is made smaller",
                remedy="give on_infeasible='degrade' with 'visual' among the sacrifices, or leave it out",
            )

    def _check_think(self) -> None:
        if self.think not in get_args(ThinkMode):
            raise UsageError(
                f"there is no think mode {self.think!r}", remedy=f"use one of {', '.join(get_args(ThinkMode))}"
            )
        for name in ("think_tokens", "think_ms", "min_think_tokens"):
            value = getattr(self, name)
            if self.think == "off" and value is not None:
                raise UsageError(
                    f"{name} {value} has no effect on think='off'", remedy=f"leave {name} out, or let it think"
                )


def _check_time(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} must be a positive number, not {value}", remedy="give milliseconds from now")
    if value > LONGEST_MS:
        raise UsageError(
            f"{name} {value:g} is more than a day ({LONGEST_MS:g})", remedy="give milliseconds, or leave it out"
        )


def _check_count(name: str, value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise UsageError(f"{name} must be a whole number of at least 1, not {value}", remedy="give a number of tokens")
