"""The exporter's environment: named by the user, found where it was made before, or made now.

It pins its own torch, transformers and numpy, so that it never goes into the environment that phiedge runs in: it gets
one below `<tools>/tensorrt-edgellm-<version>-py<python>`, which is whole when `READY` is in it. Nothing is downloaded
unless that was asked for; with a directory of wheels nothing is downloaded at all.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from phiedge.engines.edge_llm.versions import PACKAGE, REQUIREMENT, VERSION
from phiedge.errors import ToolError
from phiedge.progress import Progress, silent

READY = "phiedge-ready.json"
NEEDED_BYTES = 4_000_000_000  # 1.8 GB with torch for processors, 3.5 with CUDA's, and what pip unpacks meanwhile
_PROBE = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps(found))
"""
_TOLD = (PACKAGE, "torch", "transformers", "onnx", "onnxscript", "numpy")
_WAYS = (
    "--install-exporter to download it into an environment of its own, --wheels DIR to take it from files, "
    "or --exporter PYTHON for an environment that has it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporter:
    """An environment with the exporter in the release that phiedge knows; `versions` are of what takes part."""

    python: Path
    versions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterChoice:
    """Where the exporter shall come from; without anything, from where it was made before."""

    python: Path | None = None
    tools: Path | None = None
    wheels: Path | None = None
    install: bool = False

    def __post_init__(self) -> None:
        if self.wheels is not None and not self.wheels.is_dir():
            raise ToolError(f"{self.wheels} is no directory of wheels", remedy="pip download -d DIR " + REQUIREMENT)


def find_exporter(choice: ExporterChoice, progress: Progress = silent) -> Exporter:
    """The exporter, made now if `choice` allows it. Raises `ToolError` where there is none, or another release."""
    if choice.python is not None:
        return probe(choice.python)
    home = environment_path(choice.tools)
    if not (home / READY).is_file():
        if not choice.install and choice.wheels is None:
            raise ToolError(f"{REQUIREMENT} is not installed in {home}", remedy=f"add {_WAYS}")
        make_environment(home, wheels=choice.wheels, progress=progress)
    return probe(home / "bin" / "python")


def environment_path(tools: Path | None) -> Path:
    """Where the environment is kept: below `tools`, by default below the user's cache directory."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    return (tools or cache / "phiedge" / "tools").absolute() / f"{PACKAGE}-{VERSION}-{python}"


def probe(python: Path) -> Exporter:
    """Ask an environment what it has. Raises `ToolError`."""
    try:
        asked = subprocess.run(
            [python, "-c", _PROBE, *_TOLD], capture_output=True, text=True, env=clean_environment(), check=False
        )
    except OSError as error:
        raise ToolError(f"{python} cannot be run: {error.strerror}", remedy=f"add {_WAYS}") from error
    if asked.returncode:
        last = (asked.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ToolError(f"{python} ended with code {asked.returncode}: {last}", remedy="name a Python environment")
    versions: dict[str, str] = json.loads(asked.stdout)
    found = versions.get(PACKAGE)
    if found is None:
        raise ToolError(f"{python} has no {PACKAGE}", remedy=f"{python} -m pip install '{REQUIREMENT}'; or add {_WAYS}")
    if found != VERSION:
        raise ToolError(
            f"{python} has {PACKAGE} {found}, phiedge knows the graphs of {VERSION}; they differ between releases",
            remedy=f"{python} -m pip install '{REQUIREMENT}'; or add {_WAYS}",
        )
    return Exporter(python=python, versions=versions)


def clean_environment() -> dict[str, str]:
    """The variables that the exporter gets: no GPU, no network, and none of this process's own packages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | {
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def make_environment(home: Path, *, wheels: Path | None, progress: Progress = silent) -> None:
    """Make the environment at `home`; what an interrupted attempt left there is removed first. Raises `ToolError`."""
    home.parent.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(home.parent).free
    if free_bytes < NEEDED_BYTES:
        raise ToolError(
            f"{REQUIREMENT} needs {NEEDED_BYTES / 1e9:.1f} GB, {home.parent} has {free_bytes / 1e9:.1f} GB free",
            remedy="free some space, or name another place with --tools-dir",
        )
    with home.with_name(f".{home.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ToolError(f"another process is making {home}", remedy="wait until it has ended") from None
        shutil.rmtree(home, ignore_errors=True)
        offline = [] if wheels is None else ["--no-index", "--find-links", str(wheels.absolute())]
        with progress.task(f"install {PACKAGE}", 2, "steps") as advance:
            _run([sys.executable, "-m", "venv", str(home)], "an environment could not be made")
            advance(1)
            pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            _run([*pip, *offline, REQUIREMENT], f"{REQUIREMENT} could not be installed")
            advance(1)
        (home / READY).write_text(json.dumps({"requirement": REQUIREMENT, "offline": wheels is not None}) + "\n")


def _run(command: list[str], failed: str) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        lines = [line for line in finished.stderr.splitlines() if line.startswith("ERROR")] or ["it said nothing"]
        raise ToolError(f"{failed}: {lines[-1].removeprefix('ERROR: ')}", remedy=f"add {_WAYS}")
