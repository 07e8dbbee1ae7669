from pathlib import Path

import pytest

from benchmarks import record

SETTINGS = {"contexts": (64, 1024)}


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    return tmp_path


def test_what_is_measured_in_pieces_of_one_day_is_kept_together(results: Path) -> None:
    record.publish("speed", SETTINGS, {"small": 1}, keep=True)
    record.publish("speed", SETTINGS, {**record.kept_today("speed", SETTINGS), "large": 2}, keep=True)
    assert record.kept_today("speed", SETTINGS) == {"small": 1, "large": 2}


def test_what_was_measured_with_other_settings_is_not_taken_for_the_same(results: Path) -> None:
    record.publish("speed", SETTINGS, {"small": 1}, keep=True)
    assert record.kept_today("speed", {"contexts": (64,)}) == {}


def test_what_is_not_to_be_kept_is_not_written(results: Path) -> None:
    record.publish("speed", SETTINGS, {"small": 1}, keep=False)
    assert list(results.iterdir()) == []
