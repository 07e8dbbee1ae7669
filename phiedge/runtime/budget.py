"""What a caller may ask of the clock. It is a value only: nothing enforces it yet, and no session takes one."""

import math
from dataclasses import dataclass, fields

from phiedge.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits for one request; each is optional, one at least is given.

    `deadline_ms` covers everything from the call to the last token, `ttft_ms` up to the first token, `token_ms` one
    step of the answer; `answer_tokens` is the room to keep for the answer.
    """

    deadline_ms: float | None = None
    ttft_ms: float | None = None
    token_ms: float | None = None
    answer_tokens: int | None = None

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        limits = {name: value for name, value in given.items() if value is not None}
        if not limits:
            raise UsageError("a budget needs at least one limit", remedy=f"give one of {', '.join(given)}")
        for name, value in limits.items():
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} must be a positive number, not {value}")
        if self.deadline_ms is not None and self.ttft_ms is not None and self.ttft_ms > self.deadline_ms:
            raise UsageError(f"ttft_ms {self.ttft_ms} is later than deadline_ms {self.deadline_ms}")
