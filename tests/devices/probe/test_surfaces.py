"""Programs that a probe asks on the machine at hand: whatever they do, the probe goes on."""

import sys
from pathlib import Path

import pytest

from phiedge.devices.probe import surfaces as of_surfaces
from phiedge.devices.probe.surfaces import COMMANDS, Said, surfaces_of


def said_by(monkeypatch: pytest.MonkeyPatch, *words: str, seconds: float = 10.0) -> Said | None:
    monkeypatch.setattr(of_surfaces, "COMMANDS", {"program": words})
    monkeypatch.setattr(of_surfaces, "_MOST_SECONDS", seconds)
    return surfaces_of(None).said("program")


def test_what_a_program_says_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said_by(monkeypatch, sys.executable, "-c", "print(' a, b ')") == Said(text="a, b", failed=False)


def test_a_program_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said = said_by(monkeypatch, sys.executable, "-c", "import sys; print('no driver'); sys.exit(9)")
    assert said == Said(text="no driver", failed=True)


def test_a_program_that_is_not_there_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert said_by(monkeypatch, str(tmp_path / "missing")) is None
    (tmp_path / "no-program").write_text("")
    assert said_by(monkeypatch, str(tmp_path / "no-program")) is None


def test_of_a_program_that_never_ends_the_first_lines_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = "import select; print('EMC_FREQ 2%@3199', flush=True); select.select([], [], [], 60)"
    assert said_by(monkeypatch, sys.executable, "-c", endless, seconds=2.0) == Said(
        text="EMC_FREQ 2%@3199", failed=False
    )


def test_bytes_that_are_no_text_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    said = said_by(monkeypatch, sys.executable, "-c", "import sys; sys.stdout.buffer.write(bytes([255, 65]))")
    assert said == Said(text="\ufffdA", failed=False)


def test_in_a_recorded_tree_nothing_is_run(tmp_path: Path) -> None:
    (tmp_path / "commands").mkdir()
    (tmp_path / "commands" / "nvpmodel.txt").write_text("NV Power Mode: 15W\n0\n")
    recorded = surfaces_of(tmp_path)
    assert not recorded.live
    assert recorded.said("nvpmodel") == Said(text="NV Power Mode: 15W\n0", failed=False)
    assert all(recorded.said(name) is None for name in COMMANDS if name != "nvpmodel")
