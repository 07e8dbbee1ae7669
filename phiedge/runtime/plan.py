"""What was decided for one request before it ran: what it sees, how long it may think, and when it should be done."""

from dataclasses import dataclass

from phiedge.runtime.budget import Sacrifice
from phiedge.runtime.prompt import ThinkMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Milliseconds from the call, as the latency model tells them.

    `spent` had passed when this was decided. The parts are times that are seldom exceeded, each for itself;
    `first_token` and `total` are so for all of them together, which is less than their sum, with thinking that is
    closed at once. `slowdown` is by how much requests took longer than the profile lately, `joint` how many times their
    parts' excess is allowed for them as a whole; all these times have both in them. `usual_first_token` and
    `usual_total` are what it takes usually, if it fares as the last requests did: `lately` times of the profile, which
    may be less than once.
    """

    spent: float
    preprocess: float
    vision: float
    prefill: float
    first_token: float
    closing: float
    answer: float
    total: float
    usual_first_token: float
    usual_total: float
    quantile: float
    slowdown: float = 1.0
    joint: float = 1.0
    lately: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The decision. `forecast` is None without a profile of this machine: then nothing is promised, only enforced.
    `unpromised` says why nothing is.

    `visual_tokens` has one number for each picture, `asked_visual_tokens` what they would be without a budget.
    `thinking_tokens` is the room for thinking, None where nothing bounds it; `answer_tokens` the room that is kept.
    """

    prompt_tokens: int
    visual_tokens: tuple[int, ...]
    asked_visual_tokens: tuple[int, ...]
    max_visual_tokens: int | None
    think: ThinkMode
    thinking_tokens: int | None
    answer_tokens: int
    chunk_tokens: int
    given_up: tuple[Sacrifice, ...] = ()
    forecast: Forecast | None = None
    unpromised: str | None = None

    @property
    def rows(self) -> int:
        """The positions that the prompt and its pictures take."""
        return self.prompt_tokens + sum(self.visual_tokens)

    def explain(self) -> list[str]:
        """The decision as sentences for a person."""
        lines = [f"reads {self.prompt_tokens} text tokens" + self._told_pictures()]
        if self.given_up:
            lines.append(f"gives up {' and '.join(self.given_up)} to meet the budget")
        room = "as long as it likes" if self.thinking_tokens is None else f"at most {self.thinking_tokens} tokens"
        lines.append("does not think" if self.think == "off" else f"may think {room}")
        lines.append(f"keeps room for {self.answer_tokens} tokens of the answer")
        if self.unpromised is not None:
            lines.append(f"promises nothing: {self.unpromised}")
        if self.forecast is not None:
            lines += _told_forecast(self.forecast)
        return lines

    def _told_pictures(self) -> str:
        if not self.visual_tokens:
            return ""
        seen, asked = sum(self.visual_tokens), sum(self.asked_visual_tokens)
        smaller = f" of {asked}" if seen < asked else ""
        return f" and {seen}{smaller} visual tokens"


def _told_forecast(forecast: Forecast) -> list[str]:
    parts = ("spent", "preprocess", "vision", "prefill", "closing", "answer")
    times = ", ".join(f"{name} {getattr(forecast, name):.1f}" for name in parts)
    slow = [] if forecast.slowdown == 1 else [f"requests took {forecast.slowdown:.1f} times the profile lately"]
    return [
        *slow,
        f"first token after {forecast.first_token:.1f} ms, all within {forecast.total:.1f} ms "
        f"(each part with {100 * forecast.quantile:g} %), usually {forecast.usual_total:.1f} ms",
        f"of that in ms: {times}",
    ]
