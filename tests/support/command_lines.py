"""Running the command line: in this process to see what it says, or in one of its own that stops where a test wants."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from phiedge.cli import main


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a verb said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


def tell(capsys: pytest.CaptureFixture[str], *words: object) -> Told:
    """Run a verb in this process."""
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return Told(code=code, out=captured.out, err=captured.err)


def assert_refused(capsys: pytest.CaptureFixture[str], *words: object, code: int = 1) -> str:
    """Run a verb that must refuse, for a person and with --json, in the same way; return the message."""
    told = tell(capsys, *words)
    lines = told.err.splitlines()
    assert (told.code, told.out) == (code, ""), told
    assert lines[0].startswith("error: "), told.err
    assert lines[1].startswith("remedy: "), told.err
    assert len(lines) == 2, told.err
    as_json = tell(capsys, *words, "--json")
    assert (as_json.code, as_json.err) == (code, ""), as_json
    error = as_json.json["error"]
    assert (error["message"], error["remedy"]) == (lines[0][len("error: ") :], lines[1][len("remedy: ") :])
    return error["message"]


# The command line in a process of its own; it says "ready" and waits when a function is called for the `count`th time.
STOPPING = """
import sys
from importlib import import_module
from phiedge.cli import main

module, path, count, *words = sys.argv[1:]
*outer, name = path.split(".")
owner = import_module(module)
for part in outer:
    owner = getattr(owner, part)
original, calls = getattr(owner, name), 0

def stopping(*arguments, **options):
    global calls
    calls += 1
    if calls == int(count):
        print("ready", flush=True)
        sys.stdin.read()
    return original(*arguments, **options)

setattr(owner, name, stopping)
sys.exit(main(words))
"""


@contextmanager
def stopped_at(place: str, *words: object, count: int = 1) -> Iterator[subprocess.Popen[str]]:
    """A verb in a process of its own that waits where `place` ("module:function") is called for the `count`th time."""
    command = [sys.executable, "-c", STOPPING, *place.split(":"), str(count), *map(str, words)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.endswith("ready\n"), line + process.communicate()[1]
            yield process
        finally:
            process.kill()
