"""No page shows a command that does not exist: every `sh` and `console` block is held against the command line."""

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

import phiedge
from phiedge.cli import app
from phiedge.devices import find
from phiedge.engines.backends import BACKENDS
from phiedge.pipeline.building import VERB_BACKENDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, list[str]]]:
    """Every command of every `sh` and `console` block, split into words, with the page that shows it."""
    found = []
    for page in PAGES:
        typed = ["\n".join(re.findall(r"^\$ (.*)", block, flags=re.MULTILINE)) for block in blocks(page, "console")]
        for block in [*blocks(page, "sh"), *typed]:
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    found.append((page.name, words))
    return found


def parse(command: Any, name: str, words: list[str], parent: Any = None) -> None:
    """Parse `words` as the command line would, down to the verb, without running it."""
    context = command.make_context(name, list(words), parent=parent)
    if hasattr(command, "resolve_command"):
        # The words that the group left for its verb; click 8.2 renamed the attribute.
        left = [*getattr(context, "_protected_args", []), *context.args]
        verb, inner, rest = command.resolve_command(context, left)
        parse(inner, verb, rest, context)


@pytest.mark.parametrize(
    ("page", "words"), commands(), ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_every_command_that_a_page_shows_exists(page: str, words: list[str]) -> None:
    if words[0] == "phiedge":
        parse(typer.main.get_command(app), "phiedge", words[1:])
    elif words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("words", [words for _, words in commands() if words[0] == "phiedge"], ids=" ".join)
def test_every_device_and_backend_that_a_page_names_exists(words: list[str]) -> None:
    named = dict(pairwise(words))
    for option in ("-t", "--target"):
        if option in named:
            find(named[option])
    if "--backend" in named:
        assert named["--backend"] in (VERB_BACKENDS if words[1] == "build" else BACKENDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_compiles_and_uses_public_names(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")
        for name in re.findall(r"\bphiedge\.([A-Z]\w*)", block):
            assert name in phiedge.__all__


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_page_is_reached_by_links_from_the_readme() -> None:
    reached, left = set[Path](), [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    while left:
        page = left.pop()
        if page not in reached:
            reached.add(page)
            targets = re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", page.read_text())
            left += [(page.parent / target).resolve() for target in targets]
    assert sorted(path for path in PAGES if path not in reached) == []


def test_the_design_names_every_package() -> None:
    told = (ROOT / "docs" / "design.md").read_text()
    packages = {path.parent.name for path in (ROOT / "phiedge").rglob("__init__.py")} - {"phiedge"}
    assert sorted(name for name in packages if f"`{name}`" not in told) == []


def test_the_readme_names_the_two_commands_that_a_newcomer_needs() -> None:
    shown = [words for page, words in commands() if page == "README.md"]
    assert ["make", "demo"] in shown
    assert ["make", "test"] in shown
