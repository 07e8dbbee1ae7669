"""What a request gives back: events while it runs, and a result at its end."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from phiedge.runtime.budget import Budget
from phiedge.runtime.plan import Plan

FinishReason: TypeAlias = Literal["stop", "length", "deadline", "cancelled"]
Channel: TypeAlias = Literal["thinking", "answer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCounts:
    """`prompt` text tokens and `visual` tokens were read, `thinking` and `answer` tokens were written.

    `reused` of those that were read stood in the cache from a request before, and were not computed again; `forced` of
    those of the answer were all that its form allowed, so that nothing was chosen. Tokens that only steer (the thinking
    marks, the stop token) are in `Result.token_ids` but in none of the counts.
    """

    prompt: int
    visual: int
    thinking: int
    answer: int
    reused: int = 0
    forced: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Milliseconds. `load` is the opening of the session; the rest belongs to the request.

    `first_token` runs from the start of the request to the choice of its first token, None if it came to none; `decode`
    is the time after that; `total` is the whole request.
    """

    load: float
    preprocess: float
    vision: float
    prefill: float
    first_token: float | None
    decode: float
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a request fared against its budget.

    `slack_ms` was left of the deadline when the request ended, `overrun_ms` is by how much it ended late; one of them
    is 0, both are None without a deadline. `ttft_overrun_ms` is the same for the first token, None without such a
    limit or without a first token. `slowest_token_ms` is the longest that one token took. `thinking_closed` says why
    the thinking was ended from outside, `stopped_by` who ended the request at its deadline: the clock before a step
    that would have ended late, or the watchdog in the middle of one.
    """

    promised: bool
    slack_ms: float | None
    overrun_ms: float | None
    ttft_overrun_ms: float | None
    slowest_token_ms: float | None
    thinking_closed: Literal["time", "tokens"] | None
    stopped_by: Literal["clock", "watchdog"] | None

    def explain(self) -> list[str]:
        """The same as sentences for a person."""
        lines = []
        if self.overrun_ms:
            lines.append(f"ended {self.overrun_ms:.1f} ms after its deadline")
        elif self.slack_ms is not None:
            lines.append(f"ended {self.slack_ms:.1f} ms before its deadline")
        if self.ttft_overrun_ms:
            lines.append(f"the first token came {self.ttft_overrun_ms:.1f} ms late")
        if self.thinking_closed is not None:
            lines.append(f"the thinking was closed for lack of {self.thinking_closed}")
        if self.stopped_by is not None:
            lines.append(f"the answer was ended by the {self.stopped_by}")
        return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The answer to one request and the record of how it came about.

    `token_ids` is every token that was written, the stop token included. `thinking` and `answer` have no white space at
    their ends. A result with `finish_reason` "length", "deadline" or "cancelled" holds what there was until then.
    `plan` and `outcome` are there if the request had a `budget`.

    `value` is what an answer of a form stands for: None without a form, if the request was cancelled, or if the
    deadline left no time for the model to choose any of it. `made_up` is the end of such an answer that no model
    chose: the shortest that has the form, written where the deadline cut. Whoever acts on an answer looks at both.
    """

    answer: str
    thinking: str
    finish_reason: FinishReason
    token_ids: tuple[int, ...]
    tokens: TokenCounts
    timings_ms: Timings
    backend: str
    precision: str
    value: Any = None
    made_up: str = ""
    budget: Budget | None = None
    plan: Plan | None = None
    outcome: Outcome | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        return asdict(self) | {"token_ids": list(self.token_ids)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step of a stream.

    A token gives one event, of the kind of text it belongs to; its `text` is empty while a character is incomplete. The
    last event is "done" and brings the result. The texts of one kind, joined, are that text of the result.
    """

    kind: Channel | Literal["done"]
    text: str = ""
    token_id: int | None = None
    result: Result | None = None
