"""From a question, its history and its number of pictures to token ids with places for pictures.

The publisher's template and tokenizer have traps that fall silently: a system message is dropped, surplus pictures are
ignored, `<image>` without a picture becomes plain characters, a turn mark in the user's text ends the user's turn. Here
each of them is an error that says what to write instead. A raw prompt is taken as it stands, except that its places for
pictures must still match the pictures and that it must not start with the begin-of-text token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from phiedge.bundle import ModelFacts
from phiedge.errors import PromptError
from phiedge.runtime.chat_template import ChatTemplate
from phiedge.runtime.tokens import Tokenizer

IMAGE_PLACEHOLDER = "<image>"
ThinkMode: TypeAlias = Literal["auto", "on", "off"]
Message: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Token ids around the pictures: `pieces[i]` stands before picture i, the last piece after all of them.

    `starts_thinking` says that the last control token opens the thinking, so that what follows is thought;
    `mode_is_set` that it opens or skips it, so that the model has no choice left.
    """

    pieces: tuple[tuple[int, ...], ...]
    starts_thinking: bool
    mode_is_set: bool = False

    def __post_init__(self) -> None:
        assert self.pieces

    @property
    def images(self) -> int:
        return len(self.pieces) - 1

    @property
    def text_tokens(self) -> int:
        return sum(map(len, self.pieces))


class PromptBuilder:
    """Renders and tokenises the prompts of one model."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer, facts: ModelFacts) -> None:
        self._template = template
        self._tokenizer = tokenizer
        self._facts = facts

    def chat(self, question: str, *, images: int, think: ThinkMode = "auto", history: Sequence[Message] = ()) -> Prompt:
        """The prompt for one question after `history`, a sequence of {"role": "user" or "assistant", "content": text}.

        Pictures go where `<image>` stands, in order; if it stands nowhere, they all go before the question. Raises
        `PromptError`.
        """
        return self.raw(self.render(question, images=images, think=think, history=history), images=images)

    def render(self, question: str, *, images: int, think: ThinkMode = "auto", history: Sequence[Message] = ()) -> str:
        """The text of such a prompt, as `raw` takes it."""
        _check_text(question, "the prompt")
        messages = [self._checked(message, place) for place, message in enumerate(history)]
        self._refuse_control_texts(question, "the prompt")
        if images and not any(IMAGE_PLACEHOLDER in text for text in (question, *(m["content"] for m in messages))):
            question = f"{IMAGE_PLACEHOLDER}\n" * images + question
        messages.append({"role": "user", "content": question})
        rendered = self._template.render(
            messages, bos_token=self._tokenizer.bos_text, eos_token=self._tokenizer.eos_text
        )
        return rendered + self._mode_mark(think)

    def raw(self, rendered: str, *, images: int) -> Prompt:
        """The prompt for text that is already rendered, with `<image>` where a picture goes. Raises `PromptError`."""
        _check_text(rendered, "the prompt")
        # The publisher tokenises every piece on its own; the newline after a picture would else join its neighbours.
        pieces = tuple(tuple(self._tokenizer.encode(piece)) for piece in rendered.split(IMAGE_PLACEHOLDER))
        if len(pieces) - 1 != images:
            raise _mismatch(len(pieces) - 1, images)
        if pieces[0] and pieces[0][0] == self._facts.bos_token_id:
            raise PromptError(
                f"the prompt starts with the begin-of-text token {self._tokenizer.bos_text!r}, "
                "which this model is never given",
                remedy="leave it out",
            )
        if not any(pieces) and images == 0:
            raise PromptError("the prompt has no tokens")
        last_control = next((token for token in reversed(pieces[-1]) if token in self._tokenizer.control_ids), None)
        facts = self._facts
        return Prompt(
            pieces=pieces,
            starts_thinking=last_control == facts.think_token_id,
            mode_is_set=last_control in (facts.think_token_id, facts.nothink_token_id),
        )

    def _mode_mark(self, think: ThinkMode) -> str:
        return {"auto": "", "on": self._tokenizer.think_text, "off": self._tokenizer.nothink_text}[think]

    def _checked(self, message: Message, place: int) -> dict[str, str]:
        where = f"message {place} of the history"
        if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
            raise PromptError(f"{where} is not {{'role': ..., 'content': ...}}")
        role, content = message["role"], message["content"]
        if role == "system":
            raise PromptError(
                f"{where} is a system message; the model's template has a fixed system text and would drop it",
                remedy="put the instruction into the prompt",
            )
        if role not in ("user", "assistant"):
            raise PromptError(f"{where} has the role {role!r}", remedy="use 'user' or 'assistant'")
        _check_text(content, where)
        self._refuse_control_texts(content, where, allow_thinking=role == "assistant")
        return {"role": role, "content": content}

    def _refuse_control_texts(self, text: str, where: str, *, allow_thinking: bool = False) -> None:
        tokenizer = self._tokenizer
        allowed = (tokenizer.think_text, tokenizer.end_think_text, tokenizer.nothink_text) if allow_thinking else ()
        for control in tokenizer.control_texts:
            if control in text and control not in allowed:
                raise PromptError(
                    f"{where} contains {control!r}, which the model would read as a control token",
                    remedy="write it differently (with a space inside), or render the prompt yourself and use raw=True",
                )


def _check_text(text: object, where: str) -> None:
    if not isinstance(text, str):
        raise PromptError(
            f"{where} must be a string, not {type(text).__name__}; the model's template takes no list of parts",
            remedy=f"write the text with {IMAGE_PLACEHOLDER} where a picture goes, and and give the pictures as images",
        )
    if not text.strip():
        raise PromptError(f"{where} is empty", remedy="write what you want to know")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(f"{where} is not valid Unicode text: {error}", remedy="write it in UTF-8") from error


def _mismatch(placeholders: int, images: int) -> PromptError:
    if placeholders > images:
        remedy = f"give the missing pictures; if no picture is meant, do not write {IMAGE_PLACEHOLDER}"
    else:
        remedy = f"write one {IMAGE_PLACEHOLDER} per picture, or none at all to put every picture before the question"
    return PromptError(
        f"the prompt has {placeholders} {IMAGE_PLACEHOLDER} placeholder{'s' * (placeholders != 1)}, "
        f"{images} image{'s were' if images != 1 else ' was'} given",
        remedy=remedy,
    )
