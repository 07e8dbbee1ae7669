"""The tree itself: the links at the root, and nothing in it that belongs to one machine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
LINKS = ("calibration", "devices", "engines", "exporters", "runtime")

# Written in parts, so that this file does not find itself.
MACHINE_PATHS = re.compile(r"/(?:wo" r"rk|ro" r"ot|opt/whe" r"els|opt/py" r"pi)/")
PACKAGE_HOSTS = re.compile(
    r"pypi\." r"org|pythonho" r"sted|download\.pytorch\." r"org|registry\.np" r"mjs|deb\.deb" r"ian"
)


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def text_of(path: Path) -> str:
    data = path.read_bytes()
    return "" if b"\0" in data else data.decode()


@pytest.mark.parametrize("name", LINKS)
def test_the_root_shows_the_parts(name: str) -> None:
    assert (ROOT / name).readlink() == Path("phiedge") / name
    assert (ROOT / name / "__init__.py").is_file()


@pytest.mark.parametrize("pattern", [MACHINE_PATHS, PACKAGE_HOSTS], ids=["machine", "host"])
def test_no_file_names_a_path_of_one_machine_or_a_package_host(pattern: re.Pattern[str]) -> None:
    found = {path.relative_to(ROOT): pattern.findall(text_of(path)) for path in tracked_files()}
    assert {path: matches for path, matches in found.items() if matches} == {}


def test_constraints_are_exact_versions_and_nothing_else() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r'[a-z0-9-]+==[0-9][0-9a-z.]*( ; python_version >= "3\.11")?', line), line
    assert "torch==2.13.0" in lines


def test_every_dependency_of_development_is_constrained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["export"] + extras["test"] + extras["dev"]
    names = {re.split(r"[\[<>=; ]", requirement)[0] for requirement in wanted} - {"phiedge", "tomli"}
    constrained = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert names <= constrained


def test_the_check_of_every_change_can_be_run() -> None:
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
