"""The `phiedge` command.

Here is what all verbs share: the help page, `--version`, and how every failure becomes a message and an exit code (0
done, 1 failed, 2 usage, 3 inconclusive, 4 invalid, 130 interrupted). A verb is a module beside this one; see
`phiedge.cli.verbs`. Nothing heavy is imported until a verb runs.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from phiedge import __version__
from phiedge.cli.failures import describe
from phiedge.cli.verbs import VerbGroup

app = typer.Typer(
    name="phiedge",
    cls=VerbGroup,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"phiedge {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def phiedge(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Put Phi-4-reasoning-vision on a robot or a kiosk, and have it answer by a deadline.

    \b
    Start with:  phiedge export --target orin -o bundle
    and then:    phiedge run bundle --image picture.png --prompt "What is this?"
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with `arguments` (those of the process by default) and return the exit code.

    Every error raised on purpose, every error of the machine (`OSError`) and Ctrl-C is told without a traceback.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = typer.main.get_command(app).main(words, prog_name="phiedge", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does; the interpreter must not try to flush into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BaseException as error:
        failure = describe(error, words)
        if failure is None:
            raise
        failure.show(as_json="--json" in words)
        return failure.exit_code
    return result if isinstance(result, int) else 0
