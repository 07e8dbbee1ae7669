"""The verbs of the command line, by name, each in a module of its own that is imported only when it is called.

So `phiedge -h` lists them all without importing one, and `phiedge run` on a robot never looks for torch. A verb's
module `phiedge.cli.<verb>` holds `app`, a `typer.Typer`: with one command it is the verb, with several it is a group.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from phiedge.cli.interrupts import insistent_interrupts
from phiedge.errors import UsageError, nearest

# In the order in which a newcomer needs them.
VERBS = {
    "plan": "Say what fits a device, how fast it will be, and what to change.",
    "export": "Turn a checkpoint into a bundle for a device.",
    "run": "Ask a bundle a question, with or without pictures.",
    "build": "Make engines of a bundle, for this machine or for GPUs elsewhere.",
    "repack": "Write a bundle as a checkpoint that other engines load.",
    "inspect": "Say what is in a bundle: parts, graphs, layers, engines.",
    "verify": "Check a bundle: every byte, and its answers.",
    "bench": "Measure a bundle beside what this machine could do.",
    "profile": "Measure what requests take here, for deadlines.",
    "accept": "Test whether a bundle keeps its latency budget here.",
    "devices": "List devices that a bundle can be made for; say which this is.",
    "doctor": "Say what on this machine makes answers late.",
}


class VerbGroup(TyperGroup):
    """The group of all verbs. Typer's own context and command types are not public, hence `Any` here."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The face of a verb, enough for the help page; `resolve_command` gives the verb itself."""
        summary = VERBS.get(cmd_name)
        return None if summary is None else TyperCommand(cmd_name, help=summary)

    def resolve_command(self, ctx: Any, args: Sequence[str]) -> tuple[str, Any, list[str]]:
        name, *rest = args
        if name not in VERBS:
            close = nearest(name, VERBS, count=1)
            raise UsageError(
                f"there is no verb {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
                remedy="`phiedge -h` lists the verbs",
            )
        return name, _load(name), rest

    def make_context(self, *args: Any, **options: Any) -> Any:
        with insistent_interrupts():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with insistent_interrupts():
            return super().invoke(ctx)


def verb_app(summary: str | None = None) -> typer.Typer:
    """The `app` of a verb's module; `summary` is the help of a group of several commands.

    Help pages are plain text: in Typer's rich ones a bounding box `[x1, y1, x2, y2]` is markup, and they cost
    start-up time.
    """
    return typer.Typer(help=summary, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _load(name: str) -> Any:
    command = typer.main.get_command(import_module(f"phiedge.cli.{name}").app)
    command.name = name
    return command
