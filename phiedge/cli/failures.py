"""From an exception to what a person or a program reads about it, and to the exit code.

People get `error:` and `remedy:` on stderr, programs one JSON object on stdout. What is not listed here is a defect of
phiedge and keeps its traceback.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from phiedge.cli.interrupts import Interrupted
from phiedge.cli.verbs import VERBS
from phiedge.errors import MissingExtraError, PhiEdgeError

INTERRUPTED = 130

# Typer brings its own click, whose exceptions it exports only in part: this is `click.UsageError`, whichever is in use.
TyperUsageError: type[Exception] = typer.BadParameter.__bases__[0]

_EXTRA_OF_MODULE = {
    "huggingface_hub": "export",
    "matplotlib": "plot",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxscript": "export",
    "optimum": "export",
    "pycuda": "tensorrt",
    "safetensors": "export",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "rtx",
    "torch": "export",
}

# Of a request, in Python and on the command line.
_ARGUMENTS = "deadline_ms ttft_ms token_ms think_tokens answer_tokens min_visual_tokens max_new_tokens on_infeasible"
_ARGUMENT = re.compile(rf"\b(?P<name>{_ARGUMENTS.replace(' ', '|')})='?(?P<value>\w+)'?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What is said about an error, and the exit code of the process."""

    type: str
    message: str
    remedy: str | None
    exit_code: int

    def show(self, *, as_json: bool) -> None:
        """Print it for a program on stdout, or for a person on stderr."""
        if as_json:
            error = {"type": self.type, "message": self.message, "remedy": self.remedy}
            print(json.dumps({"error": error}, ensure_ascii=False))
            return
        print(f"error: {self.message}", file=sys.stderr)
        if self.remedy is not None:
            print(f"remedy: {self.remedy}", file=sys.stderr)


def describe(error: BaseException, words: Sequence[str] = ()) -> Failure | None:
    """The failure that `error` stands for in the command line `words`, or None for a defect."""
    if isinstance(error, PhiEdgeError):
        return Failure(
            type=type(error).__name__,
            message=error.message,
            remedy=_as_typed(error.remedy, words),
            exit_code=error.exit_code,
        )
    if isinstance(error, TyperUsageError):
        return _describe_usage(error, words)
    if isinstance(error, Interrupted | KeyboardInterrupt | typer.Abort):
        return Failure(type="Interrupted", message="interrupted", remedy=str(error) or None, exit_code=INTERRUPTED)
    if isinstance(error, OSError):
        return Failure(type=type(error).__name__, message=_describe_os_error(error), remedy=None, exit_code=1)
    if isinstance(error, ModuleNotFoundError):
        return _describe_missing_module(error, words)
    return None


def _as_typed(remedy: str | None, words: Sequence[str]) -> str | None:
    """The remedy with arguments of Python's calls, `deadline_ms=141`, as the options that `phiedge run` has."""
    if remedy is None or words[:1] != ["run"]:
        return remedy
    return _ARGUMENT.sub(lambda found: f"--{found['name'].replace('_', '-')} {found['value']}", remedy)


def _describe_usage(error: Exception, words: Sequence[str]) -> Failure:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    command = _command(words) if context is None else context.command_path
    return Failure(
        type="UsageError",
        message=message[:1].lower() + message[1:].rstrip("."),
        remedy=f"`{command} -h` says what there is",
        exit_code=2,
    )


def _describe_os_error(error: OSError) -> str:
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return reason if error.filename is None else f"{error.filename}: {reason}"


def _describe_missing_module(error: ModuleNotFoundError, words: Sequence[str]) -> Failure | None:
    module = (error.name or "").partition(".")[0]
    extra = _EXTRA_OF_MODULE.get(module)
    if extra is None:
        return None
    return describe(MissingExtraError(what=_command(words), extra=extra, missing=module), words)


def _command(words: Sequence[str]) -> str:
    return f"phiedge {words[0]}" if words and words[0] in VERBS else "phiedge"
