import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "robot_loop.py"


def test_the_robot_answers_about_the_newest_frames(exported_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE))["main"](str(exported_bundle), frames=5, rate_hz=1000.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("of 5 frames were dropped, as newer ones came")
    assert all(line.startswith("frame ") for line in lines[:-1])
