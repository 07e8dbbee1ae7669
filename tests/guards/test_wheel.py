"""What is installed on a device: the wheel and its declared dependencies, no extra, in an environment of their own."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
HEAVY = ("onnx", "onnx_ir", "onnxscript", "safetensors", "torch", "transformers")

ASK = """
import json, sys
import numpy
import phiedge
picture = numpy.full((64, 96, 3), 200, dtype=numpy.uint8)
with phiedge.Session.open(sys.argv[1]) as session:
    result = session.generate("What is this?", images=[picture], max_new_tokens=4)
print(json.dumps({"tokens": len(result.token_ids), "modules": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, so that nothing of an older build takes part."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("phiedge", "optimum"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    built = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(built), str(source)]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` directory of an environment with the wheel and, linked from here, what it declares that it needs."""
    environment = tmp_path_factory.mktemp("device") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", str(wheel)], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    for distribution in required_by("phiedge"):
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    return python.parent


def required_by(name: str) -> Iterator[importlib.metadata.Distribution]:
    """The distributions that `name` needs without any extra, and those that they need."""
    seen = {name}
    waiting = [Requirement(text) for text in importlib.metadata.requires(name) or ()]
    while waiting:
        requirement = waiting.pop()
        wanted = requirement.marker is None or requirement.marker.evaluate({**default_environment(), "extra": ""})
        if not wanted or requirement.name in seen:
            continue
        seen.add(requirement.name)
        distribution = importlib.metadata.distribution(requirement.name)
        yield distribution
        waiting += [Requirement(text) for text in distribution.requires or ()]


def run_on_device(*command: str | Path) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.defpath, "HOME": os.devnull, "LC_ALL": "C.UTF-8"}
    finished = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=clean, cwd="/")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {
        path.relative_to(ROOT).as_posix()
        for package in ("phiedge", "optimum")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == sources
    assert {"phiedge/py.typed", "phiedge/devices/catalogue.toml"} <= names
    assert any(name.startswith("phiedge/reference/model/") and name.endswith(".safetensors") for name in names)
    assert [name for name in names if name.startswith("optimum/")] == [
        "optimum/commands/register/register_phiedge.py"
    ], "a file more would break the namespace of optimum"


def test_the_wheel_carries_its_licence_and_its_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (licence,) = [name for name in archive.namelist() if name.endswith("/LICENSE")]
    assert "Apache License" in archive.read(licence).decode()
    (entry_points,) = [name for name in archive.namelist() if name.endswith("/entry_points.txt")]
    assert "phiedge = phiedge.__main__:main" in archive.read(entry_points).decode()


def test_a_device_has_neither_torch_nor_onnx_nor_transformers(device: Path) -> None:
    script = f"import importlib.util, json; print(json.dumps([m for m in {HEAVY!r} if importlib.util.find_spec(m)]))"
    assert json.loads(run_on_device(device / "python", "-c", script).stdout) == []


def test_the_command_line_starts_on_a_device(device: Path) -> None:
    assert "Usage: phiedge" in run_on_device(device / "phiedge", "-h").stdout


def test_the_devices_are_listed_on_a_device(device: Path) -> None:
    assert "orin" in run_on_device(device / "phiedge", "devices", "list").stdout


def test_export_on_a_device_names_the_extra_that_it_needs(device: Path, tmp_path: Path) -> None:
    command = [device / "phiedge", "export", "--target", "cpu", "-o", tmp_path / "bundle"]
    finished = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert finished.returncode == 1
    assert "pip install 'phiedge[export]'" in finished.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_session_answers_on_a_device(device: Path, exported_bundle: Path) -> None:
    told = json.loads(run_on_device(device / "python", "-c", ASK, exported_bundle).stdout)
    assert told["tokens"] > 0
    assert not set(HEAVY) & set(told["modules"])


def test_a_bundle_is_verified_on_a_device(device: Path, exported_bundle: Path) -> None:
    assert run_on_device(device / "phiedge", "verify", exported_bundle).stdout.endswith("verified\n")


def test_a_bundle_is_inspected_on_a_device(device: Path, exported_bundle: Path) -> None:
    told = json.loads(run_on_device(device / "phiedge", "inspect", exported_bundle, "--json").stdout)
    assert all(dialect["decoder"]["operators"] for dialect in told["dialects"])
    assert len(told["layers"]) > 0
