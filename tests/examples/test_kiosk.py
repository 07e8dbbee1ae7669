import runpy
from pathlib import Path

import pytest

import phiedge

EXAMPLE = Path(__file__).parents[2] / "examples" / "kiosk.py"


def test_visitors_are_answered_in_turn_and_one_may_leave(
    exported_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = phiedge.Budget(deadline_ms=3_600_000, answer_tokens=4)
    runpy.run_path(str(EXAMPLE))["main"](str(exported_bundle), visitors=3, budget=budget)
    *answered, left = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in answered] == ["visitor 0", "visitor 1", "visitor 2"]
    assert all(line.endswith("ms before its deadline") for line in answered)
    assert left == "visitor 3: left before the answer"


def test_who_waited_too_long_is_told(exported_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    budget = phiedge.Budget(deadline_ms=0.001, answer_tokens=4)
    runpy.run_path(str(EXAMPLE))["main"](str(exported_bundle), visitors=2, budget=budget)
    assert "visitor 1: too many were before you" in capsys.readouterr().out
