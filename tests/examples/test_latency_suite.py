"""The example of a suite with latency budgets, run as its first lines say."""

import os
import subprocess
import sys
from pathlib import Path

import phiedge
from phiedge.bundle import Bundle

EXAMPLE = Path(__file__).parents[2] / "examples" / "test_latency.py"


def test_the_suite_passes_on_a_small_bundle(tiny_bundle: Bundle) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "phiedge.acceptance.pytest_plugin", "-p", "no:cacheprovider"]
    there = os.environ | {
        "PYTHONPATH": str(Path(phiedge.__file__).parents[1]),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PHIEDGE_BUNDLE": str(tiny_bundle.path),
    }
    finished = subprocess.run([*command, str(EXAMPLE)], env=there, capture_output=True, text=True)
    assert "2 passed" in finished.stdout, finished.stdout
