"""What runs on a device starts without torch, ONNX or transformers, and the command line without waiting for numpy."""

import json
import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest

HEAVY = {
    "huggingface_hub",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "optimum",
    "safetensors",
    "torch",
    "transformers",
}
# Light enough for a device, too slow for `import phiedge` and `phiedge -h`.
SLOW = {"PIL", "jinja2", "numpy", "onnxruntime", "tokenizers"}

LOADED = "import json, sys; print('\\n' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"


def top_level_modules_after(statements: str) -> set[str]:
    command = [sys.executable, "-c", f"{statements}\n{LOADED}"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(finished.stdout.splitlines()[-1]))


def modules_of(package: str) -> list[str]:
    path = import_module(package).__path__
    return [package, *(module.name for module in pkgutil.walk_packages(path, f"{package}."))]


@pytest.mark.parametrize(
    "package", ["phiedge.bundle", "phiedge.cli", "phiedge.devices", "phiedge.engines", "phiedge.runtime"]
)
def test_no_module_of_a_device_package_imports_anything_heavy(package: str) -> None:
    imports = "\n".join(f"import {module}" for module in modules_of(package))
    assert not top_level_modules_after(imports) & HEAVY


@pytest.mark.parametrize("statements", ["import phiedge", "from phiedge.cli import main; main(['-h'])"])
def test_starting_imports_neither_heavy_nor_slow_packages(statements: str) -> None:
    assert not top_level_modules_after(statements) & (HEAVY | SLOW)


def test_the_guard_sees_what_it_guards_against() -> None:
    assert "numpy" in top_level_modules_after("import numpy")
