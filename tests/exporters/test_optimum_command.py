"""`optimum-cli export phiedge`, through Optimum's own entry point, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REGISTER = ROOT / "optimum" / "commands" / "register"

# The pipeline is replaced: what is tested is that the command reaches it with what the person typed.
STAND_IN = """
import sys, types
from types import SimpleNamespace
from phiedge.errors import UnknownDeviceError
pipeline = types.ModuleType("phiedge.pipeline")
def export(model, *, target, output, precision, calibration, max_context, progress):
    if target == "toaster":
        raise UnknownDeviceError("there is no device 'toaster'", remedy="phiedge devices list")
    if target == "nowhere":
        raise OSError(28, "No space left on device")
    if target == "broken":
        raise ZeroDivisionError("a defect")
    print([model, target, str(output), precision, calibration, max_context])
    return SimpleNamespace(path=output)
pipeline.export = export
sys.modules["phiedge.pipeline"] = pipeline
from optimum.commands.optimum_cli import main
sys.argv = ["optimum-cli", *sys.argv[1:]]
main()
"""


def optimum_cli(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", STAND_IN, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


def test_the_command_reaches_the_pipeline_with_its_options() -> None:
    done = optimum_cli("export", "phiedge", "--model", "reference", "--target", "orin", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['reference', 'orin', 'out', 'auto', 'none', None]", "out"]


def test_every_option_is_passed_on() -> None:
    words = "-m a/b --target cpu --output x --precision fp16 --calibration c.jsonl --max-context 512"
    done = optimum_cli("export", "phiedge", *words.split())
    assert done.stdout.splitlines()[0] == "['a/b', 'cpu', 'x', 'fp16', 'c.jsonl', 512]"


@pytest.mark.parametrize(
    ("target", "exit_code", "said"),
    [
        ("toaster", 2, "error: there is no device 'toaster'\nremedy: phiedge devices list\n"),
        ("nowhere", 1, "error: no space left on device\n"),
    ],
)
def test_errors_are_told_as_phiedge_tells_them(target: str, exit_code: int, said: str) -> None:
    done = optimum_cli("export", "phiedge", "--model", "reference", "--target", target, "-o", "out")
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert done.stderr.endswith(said)
    assert "Traceback" not in done.stderr


def test_a_defect_keeps_its_traceback() -> None:
    done = optimum_cli("export", "phiedge", "--model", "reference", "--target", "broken", "-o", "out")
    assert done.returncode == 1
    assert "ZeroDivisionError: a defect" in done.stderr


def test_a_missing_option_is_a_usage_error() -> None:
    done = optimum_cli("export", "phiedge", "--model", "reference")
    assert done.returncode == 2
    assert "--target" in done.stderr


def test_starting_optimum_imports_nothing_of_phiedge() -> None:
    code = (
        "import sys, importlib\n"
        "importlib.import_module('optimum.commands.register.register_phiedge')\n"
        "print([name for name in sys.modules if name.startswith('phiedge') or name == 'torch'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_directory_stays_a_namespace() -> None:
    for directory in (REGISTER, REGISTER.parent, REGISTER.parent.parent):
        assert not (directory / "__init__.py").exists()
