"""The reference of `phiedge run` has every option of the command, and no other."""

import re
from pathlib import Path

import typer

from phiedge.cli.run import app

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "run.md"


def test_the_page_has_every_option_and_no_other() -> None:
    command = typer.main.get_command(app)
    options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}
    told = set(re.findall(r"`(--[a-z-]+)`", PAGE.read_text(encoding="utf-8")))
    assert told | {"--help"} == options | {"--help"}
