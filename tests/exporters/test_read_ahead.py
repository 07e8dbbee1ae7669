import os
import threading
from pathlib import Path

import pytest

from fake_checkpoints import write_checkpoint
from phiedge.devices.memory_limits import MemoryLimit
from phiedge.exporters import read_ahead
from phiedge.exporters.checkpoint import open_checkpoint


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is read ahead of a checkpoint of any size, in pieces of a kilobyte."""
    pieces: list[int] = []
    preadv = os.preadv

    def counted(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        count = preadv(descriptor, buffers, offset)
        pieces.append(count)
        return count

    monkeypatch.setattr(read_ahead, "_WORTH_BYTES", 1)
    monkeypatch.setattr(read_ahead, "_STEP_BYTES", 1000)
    monkeypatch.setattr(read_ahead.os, "preadv", counted)
    return pieces


def wait_for_thread() -> None:
    for thread in threading.enumerate():
        if thread.name == "read-ahead":
            thread.join(10)


def test_all_files_are_read_in_the_background(tmp_path: Path, read: list[int]) -> None:
    with open_checkpoint(write_checkpoint(tmp_path / "checkpoint", shards=2)) as source:
        with source.reading_ahead():
            wait_for_thread()
    assert sum(read) == sum(path.stat().st_size for path in (tmp_path / "checkpoint").glob("*.safetensors"))


def test_no_more_is_read_than_there_is_memory_to_keep(
    tmp_path: Path, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "available_memory", lambda: MemoryLimit(bytes=20_000, by="a test"))
    with open_checkpoint(write_checkpoint(tmp_path / "checkpoint")) as source:
        with source.reading_ahead():
            wait_for_thread()
    assert sum(read) == 5000


def test_it_ends_with_the_work_that_it_accompanies(tmp_path: Path, read: list[int]) -> None:
    with open_checkpoint(write_checkpoint(tmp_path / "checkpoint")) as source:
        with pytest.raises(KeyboardInterrupt), source.reading_ahead():
            raise KeyboardInterrupt
    assert "read-ahead" not in [thread.name for thread in threading.enumerate()]


def test_a_small_checkpoint_is_left_alone(tmp_path: Path, read: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "_WORTH_BYTES", 1 << 30)
    with open_checkpoint(write_checkpoint(tmp_path / "checkpoint")) as source, source.reading_ahead():
        wait_for_thread()
    assert read == []


def test_a_file_that_cannot_be_read_is_told_by_whoever_needs_it(
    tmp_path: Path, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError("the disk is gone")

    monkeypatch.setattr(read_ahead.os, "preadv", refuse)
    with open_checkpoint(write_checkpoint(tmp_path / "checkpoint")) as source, source.reading_ahead():
        wait_for_thread()
