"""`phiedge doctor`, on recorded systems."""

import json
from pathlib import Path

import pytest

from phiedge.cli import main
from recorded_trees import unpack


def test_a_system_without_findings_exits_with_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--sysroot", str(unpack("agx-orin-64-jetpack-7", tmp_path))]) == 0
    assert "nothing was found" in capsys.readouterr().out


def test_findings_exit_with_one_and_say_why_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--sysroot", str(unpack("orin-nx-16", tmp_path))]) == 1
    shown = capsys.readouterr()
    assert "fix: sudo jetson_clocks" in shown.out
    assert shown.out.count("why: ") == shown.out.count("fix: ")
    assert "unknown here: memory clock" in shown.out
    assert shown.err == ""


def test_findings_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--sysroot", str(unpack("rtx-4090-desktop", tmp_path)), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["device"] == "rtx-4090"
    assert {"name", "when", "what", "why", "fix"} == set(told["findings"][0])
    assert told["unknown"] == ["heat"]


def test_this_machine_can_be_examined(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["findings"] is not None


def test_a_tree_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--sysroot", str(tmp_path / "missing")]) == 2
    assert "is not a directory" in capsys.readouterr().err
