"""The forms that an answer can be asked for in. Values only: what makes an answer keep to one is in `following.py`.

A form says three things: the grammar that the text of the answer follows, which value that text stands for, and which
characters end a thing that the model began (`closers`) rather than add to what it said.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from phiedge.errors import UsageError

MOST_CHOICES = 10_000
_SCHEMA_REMEDY = "give the schema as a JSON object, such as {'type': 'object', 'properties': {...}}"
_NUMBER = r"(0\.[0-9]{1,4}|1\.0{1,4}|0|1)"


class Form(Protocol):
    """What an answer must look like."""

    @property
    def name(self) -> str:
        """The form in one word, for messages."""
        ...

    @property
    def grammar(self) -> tuple[str, str]:
        """The kind of its grammar ("json", "regex" or "lark"), and the grammar."""
        ...

    @property
    def closers(self) -> bytes:
        """Characters that only end what was begun before, the one that ends most first."""
        ...

    def value(self, answer: str) -> Any:
        """What `answer`, which has this form, stands for."""
        ...


@dataclass(frozen=True, slots=True)
class JsonForm:
    """JSON that follows `schema` (JSON Schema 2020-12, but for what the grammar library lists as unsupported).

    The answer is written on one line, as `json.dumps` does by default, with the properties in the schema's order; its
    value is what `json.loads` gives.
    """

    schema: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.schema, Mapping):
            raise UsageError(f"a schema must be an object, not {type(self.schema).__name__}", remedy=_SCHEMA_REMEDY)
        try:
            json.dumps(self.schema, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UsageError(f"the schema is not JSON: {error}", remedy=_SCHEMA_REMEDY) from error

    @staticmethod
    def parse(text: str) -> "JsonForm":
        """The form of a schema in JSON text. Raises `UsageError`."""
        try:
            return JsonForm(json.loads(text))
        except json.JSONDecodeError as error:
            raise UsageError(f"the schema is not JSON: {error}", remedy=_SCHEMA_REMEDY) from error

    @property
    def name(self) -> str:
        return "schema"

    @property
    def grammar(self) -> tuple[str, str]:
        return "json", json.dumps(self.schema)

    @property
    def closers(self) -> bytes:
        return b'}]",: '

    def value(self, answer: str) -> Any:
        return json.loads(answer)


@dataclass(frozen=True, slots=True)
class ChoiceForm:
    """One of `choices`, which is also the value. One may begin with another: the model says where it ends."""

    choices: Sequence[str]

    def __post_init__(self) -> None:
        if isinstance(self.choices, str) or not isinstance(self.choices, Sequence):
            raise UsageError(f"choices must be a list of texts, not {type(self.choices).__name__}")
        if not 1 <= len(self.choices) <= MOST_CHOICES:
            raise UsageError(
                f"there are {len(self.choices)} choices, where 1 to {MOST_CHOICES} are needed",
                remedy="name what the answer may be",
            )
        for choice in self.choices:
            _check_choice(choice)
        twice = next((choice for k, choice in enumerate(self.choices) if choice in self.choices[:k]), None)
        if twice is not None:
            raise UsageError(f"the choice {twice!r} is there twice", remedy="name each choice once")
        object.__setattr__(self, "choices", tuple(self.choices))

    @property
    def name(self) -> str:
        return "choice"

    @property
    def grammar(self) -> tuple[str, str]:
        return "lark", "start: " + " | ".join(json.dumps(choice) for choice in self.choices)

    @property
    def closers(self) -> bytes:
        return b""

    def value(self, answer: str) -> str:
        return answer


def _check_choice(choice: object) -> None:
    if not isinstance(choice, str):
        raise UsageError(f"a choice must be a text, not {choice!r}", remedy="write numbers as texts, such as '3'")
    if not choice or choice != choice.strip():
        raise UsageError(
            f"the choice {choice!r} is empty or has white space at an end", remedy="leave the white space out"
        )
    try:
        choice.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the choice {choice!r} is not valid Unicode text: {error}") from error


@dataclass(frozen=True, slots=True)
class PatternForm:
    """Text that `pattern` matches from end to end: a regular expression in Rust's syntax, without look-around.

    The value is the text.
    """

    pattern: str

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str) or not self.pattern:
            raise UsageError(
                f"a pattern must be a regular expression, not {self.pattern!r}", remedy="such as '[0-9]{1,3}'"
            )

    @property
    def name(self) -> str:
        return "pattern"

    @property
    def grammar(self) -> tuple[str, str]:
        return "regex", self.pattern

    @property
    def closers(self) -> bytes:
        return b""

    def value(self, answer: str) -> str:
        return answer


@dataclass(frozen=True, slots=True)
class BoxForm:
    """The model's own way to name a place: `[x1, y1, x2, y2]`, shares of the picture's sides from 0 to 1.

    The value is a tuple of the four numbers, as they were answered: a model can name corners in a wrong order.
    """

    @property
    def name(self) -> str:
        return "box"

    @property
    def grammar(self) -> tuple[str, str]:
        return "regex", _numbers(4)

    @property
    def closers(self) -> bytes:
        return b"],. "

    def value(self, answer: str) -> tuple[float, ...]:
        return tuple(map(float, json.loads(answer)))


@dataclass(frozen=True, slots=True)
class PointForm(BoxForm):
    """One point `[x, y]`, shares of the picture's sides from 0 to 1; the value is a tuple of the two numbers."""

    @property
    def name(self) -> str:
        return "point"

    @property
    def grammar(self) -> tuple[str, str]:
        return "regex", _numbers(2)


def _numbers(count: int) -> str:
    return r"\[" + ", ".join([_NUMBER] * count) + r"\]"
