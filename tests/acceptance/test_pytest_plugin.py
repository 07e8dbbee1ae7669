"""Budget tests in somebody else's suite."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import phiedge
from phiedge.acceptance.pytest_plugin import spec_of_mark
from phiedge.errors import UsageError

SUITE = """
import pytest

@pytest.mark.latency_budget(limit_ms=60_000, quantile=0.8, drift_max_share=1000)
def test_in_time(latency_budget):
    latency_budget.check(lambda: None)

@pytest.mark.latency_budget(limit_ms=1e-6, quantile=0.8)
def test_too_late(latency_budget):
    latency_budget.check(lambda: None)

@pytest.mark.latency_budget(limit_ms=60_000, quantile=0.8, max_requests=2)
def test_too_few(latency_budget):
    latency_budget.check(lambda: None)

@pytest.mark.latency_budget(limit_ms=60_000, quantil=0.8)
def test_mistyped(latency_budget):
    latency_budget.check(lambda: None)

def test_unmarked(latency_budget):
    latency_budget.check(lambda: None)
"""


def test_a_suite_gets_the_verdicts_of_accept(tmp_path: Path) -> None:
    (tmp_path / "test_robot.py").write_text(SUITE, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "phiedge.acceptance.pytest_plugin"]
    # Named, and not found as installed: that way it is this one, and there once.
    there = os.environ | {"PYTHONPATH": str(Path(phiedge.__file__).parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    finished = subprocess.run([*command, str(tmp_path)], cwd=tmp_path, env=there, capture_output=True, text=True)
    assert "1 passed, 2 failed" in finished.stdout.replace("2 failed, 1 passed", "1 passed, 2 failed"), finished.stdout
    assert "2 errors" in finished.stdout
    assert "FAIL: test_too_late: e2e_ms at 80 % within 1e-06 ms" in finished.stdout
    assert "INCONCLUSIVE: test_too_few" in finished.stdout
    assert "did you mean 'quantile'?" in finished.stdout
    assert "needs a budget" in finished.stdout


def test_a_mark_takes_the_options_of_a_spec() -> None:
    spec = spec_of_mark("t", {"limit_ms": 5.0, "quantile": 0.9, "period_ms": 50.0, "clustering": 0.5})
    assert spec.statistics.clustering == 0.5
    assert spec.workloads[0].arrival.kind == "periodic"


def test_a_mark_without_a_limit_is_refused() -> None:
    with pytest.raises(UsageError, match="lacks limit_ms"):
        spec_of_mark("t", {"quantile": 0.9})
