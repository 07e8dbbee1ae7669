import json
import threading
from pathlib import Path

import pytest

from phiedge.bundle import FileEntry
from phiedge.bundle.reading import JOURNAL_NAME
from phiedge.bundle.record import encode
from phiedge.exporters import journal as journals
from phiedge.exporters.journal import Journal, JournalEntry
from phiedge.exporters.quantised import QuantisedTensor

ROW = QuantisedTensor(
    name="w",
    method="rtn",
    bits=4,
    group_size=32,
    accuracy_level=4,
    shape=(2, 64),
    relative_l2=0.125,
    max_abs_error=0.1,
    stored_bytes=72,
    sha256="2" * 64,
)


def entry(key: str, done: int = 3) -> JournalEntry:
    files = {"w.data": FileEntry(sha256="0" * 64, bytes=100)}
    return JournalEntry(
        key=key, done=done, files=files, rows=(ROW,), sources={"1": FileEntry(sha256="1" * 64, bytes=9)}
    )


def opened(directory: Path, key: str = "k", said: list[str] | None = None) -> Journal:
    return Journal(directory, key, notice=(said if said is not None else []).append)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "STEP_BYTES", 100)


def test_an_entry_is_written_once_so_much_has_been_and_the_data_are_on_the_disk(tmp_path: Path, steps: None) -> None:
    order: list[str] = []
    with opened(tmp_path) as journal:
        journal.consider(99, entry, lambda: order.append("flush"))
        assert order == []
        journal.consider(100, entry, lambda: order.append(str((tmp_path / JOURNAL_NAME).exists())))
    assert order == ["False"], "the data first"
    found = opened(tmp_path)
    assert found.entry == entry("k")
    assert found.held_bytes == 100


def test_while_one_is_on_its_way_another_waits_for_the_next_chance(tmp_path: Path, steps: None) -> None:
    slow = threading.Event()
    with opened(tmp_path) as journal:
        journal.consider(100, entry, lambda: slow.wait(10) and None)
        journal.consider(250, lambda key: entry(key, 9), lambda: None)
        slow.set()
    assert opened(tmp_path).entry == entry("k")


def test_an_error_of_the_disk_comes_out(tmp_path: Path, steps: None) -> None:
    def refuse() -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"), opened(tmp_path) as journal:
        journal.consider(100, entry, refuse)
        journal.consider(500, entry, lambda: None)
    assert not (tmp_path / JOURNAL_NAME).exists()


def test_the_last_entry_is_there_only_where_there_was_one_before(tmp_path: Path, steps: None) -> None:
    with opened(tmp_path) as journal:
        journal.close_with(entry, lambda: None)
    assert not (tmp_path / JOURNAL_NAME).exists()
    with opened(tmp_path) as journal:
        journal.consider(100, entry, lambda: None)
        journal.close_with(lambda key: entry(key, 7), lambda: None)
    assert opened(tmp_path).entry == entry("k", 7)


def test_what_no_entry_speaks_of_is_removed(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_NAME).write_text(json.dumps(encode(entry("k"))))
    (tmp_path / "w.data").write_bytes(b"x")
    (tmp_path / "manifest.json").write_bytes(b"x")
    (tmp_path / "fp32-copy").mkdir()
    assert opened(tmp_path).entry == entry("k")
    assert sorted(path.name for path in tmp_path.iterdir()) == [JOURNAL_NAME, "w.data"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "k"}', json.dumps(encode(entry("other")))])
def test_another_or_a_broken_journal_goes_with_all_it_speaks_of(tmp_path: Path, text: str) -> None:
    (tmp_path / JOURNAL_NAME).write_text(text)
    (tmp_path / "w.data").write_bytes(b"x")
    said: list[str] = []
    assert opened(tmp_path, said=said).entry is None
    assert list(tmp_path.iterdir()) == []
    assert len(said) == 1


def test_a_directory_without_a_journal_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(b"x")
    assert opened(tmp_path).entry is None
    assert (tmp_path / "w.data").exists()
