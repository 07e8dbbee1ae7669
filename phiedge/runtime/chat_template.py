"""Chat templates: Jinja source from a checkpoint, rendered in a sandbox.

The template comes with the weights and is not trusted. It sees the messages and a few strings; it reaches no attribute
that starts with an underscore, no file and no clock, cannot change what it is given, and runs a bounded number of loop
turns. White space is handled as the publisher's library does it (`trim_blocks`, `lstrip_blocks`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
import jinja2.sandbox

from phiedge.errors import BundleError, PromptError

MAX_LOOP_TURNS = 100_000
MAX_RENDERED_CHARACTERS = 4_000_000


class _GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant wrote, for training; for rendering it is only its content."""

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        self.tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """One compiled template. Raises `BundleError` if it does not compile."""

    def __init__(self, source: str) -> None:
        self._turns_left = 0
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationBlock, jinja2.ext.loopcontrols],
        )
        environment.filters["counted"] = self._count_turns
        environment.globals["raise_exception"] = _refuse
        try:
            tree = environment.parse(source)
            for loop in tree.find_all(jinja2.nodes.For):
                loop.iter = jinja2.nodes.Filter(loop.iter, "counted", [], [], None, None, lineno=loop.lineno)
            self._template = environment.template_class.from_code(
                environment, environment.compile(tree), environment.make_globals(None)
            )
        except (jinja2.TemplateError, RecursionError) as error:
            raise BundleError(
                f"the chat template does not compile: {error}", remedy="export the bundle again"
            ) from error

    @staticmethod
    def read(path: Path) -> "ChatTemplate":
        """The template in a file. Raises `BundleError` also for a file that is no text."""
        try:
            return ChatTemplate(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise BundleError(f"{path.name} is not UTF-8 text: {error}", remedy="export the bundle again") from error

    def render(self, messages: Sequence[Mapping[str, str]], **strings: str) -> str:
        """The prompt for `messages` (role and content), up to where the assistant's answer starts.

        `strings` are the tokens that templates may name, such as `bos_token`. Raises `PromptError`.
        """
        self._turns_left = MAX_LOOP_TURNS
        copies = [dict(message) for message in messages]
        try:
            parts = self._template.generate(messages=copies, add_generation_prompt=True, **strings)
            return "".join(_limited(parts))
        except (jinja2.TemplateError, RecursionError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise PromptError(
                f"the chat template cannot render this conversation: {error}",
                remedy="pass an already rendered prompt with raw=True",
            ) from error

    def _count_turns(self, items: Iterable[object]) -> Iterator[object]:
        for item in items:
            self._turns_left -= 1
            if self._turns_left < 0:
                raise jinja2.TemplateRuntimeError(f"it loops more than {MAX_LOOP_TURNS} times")
            yield item


def _limited(parts: Iterator[str]) -> Iterator[str]:
    length = 0
    for part in parts:
        length += len(part)
        if length > MAX_RENDERED_CHARACTERS:
            raise jinja2.TemplateRuntimeError(f"it renders more than {MAX_RENDERED_CHARACTERS} characters")
        yield part


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateRuntimeError(message)
