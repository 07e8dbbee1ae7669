"""The options of one request, checked before anything is computed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import get_args

from phiedge.errors import UsageError
from phiedge.runtime.budget import Budget
from phiedge.runtime.forms.form import Form
from phiedge.runtime.images import ImageSource
from phiedge.runtime.prompt import Message, ThinkMode
from phiedge.runtime.sampling import Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A question with everything that the caller chose; see `Session.generate` for what each option means."""

    prompt: str
    images: Iterable[ImageSource] = ()
    think: ThinkMode = "auto"
    max_new_tokens: int = 512
    sampling: Sampling = field(default_factory=Sampling)
    raw: bool = False
    truncate_like_publisher: bool = False
    history: Sequence[Message] = ()
    max_visual_tokens: int | None = None
    budget: Budget | None = None
    form: Form | None = None

    def __post_init__(self) -> None:
        if self.think not in get_args(ThinkMode):
            raise UsageError(
                f"there is no think mode {self.think!r}", remedy=f"use one of {', '.join(get_args(ThinkMode))}"
            )
        if self.max_new_tokens < 1:
            raise UsageError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}")
        if self.max_visual_tokens is not None and self.max_visual_tokens < 1:
            raise UsageError(f"max_visual_tokens must be at least 1, not {self.max_visual_tokens}")
        if self.raw and self.think != "auto":
            raise UsageError(
                f"think={self.think!r} does not combine with a raw prompt",
                remedy="end the prompt with the token that opens or skips the thinking",
            )
        if self.raw and self.history:
            raise UsageError("history does not combine with a raw prompt", remedy="render it into the prompt")
