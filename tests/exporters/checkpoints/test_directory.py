"""A checkpoint's directory: whole or not at all, and never in place of something else."""

import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from phiedge.bundle import hash_file
from phiedge.errors import FormatError
from phiedge.exporters.checkpoints.directory import RECORD_NAME, CheckpointDirectory


def write(destination: Path, *, text: str = "x", overwrite: bool = False) -> Path:
    with CheckpointDirectory(destination, overwrite=overwrite) as directory:
        (directory.path / "file").write_text(text)
        return directory.commit({"format": "awq"})


def test_the_record_has_the_hash_of_every_file(tmp_path: Path) -> None:
    written = write(tmp_path / "new" / "checkpoint")
    record = json.loads((written / RECORD_NAME).read_text())
    assert record == {"format": "awq", "files": {"file": {"bytes": 1, "sha256": hash_file(written / "file")}}}


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        with CheckpointDirectory(tmp_path / "checkpoint") as directory:
            (directory.path / "file").write_text("x")
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_not_in_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".checkpoint.partial-repack"
    left.mkdir()
    (left / "half").write_text("x")
    assert sorted(path.name for path in write(tmp_path / "checkpoint").iterdir()) == ["file", RECORD_NAME]


def test_a_checkpoint_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint", text="old")
    with pytest.raises(FormatError, match="already holds a checkpoint"):
        write(tmp_path / "checkpoint")
    assert (write(tmp_path / "checkpoint", text="new", overwrite=True) / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_directory_of_anything_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "notes").write_text("mine")
    with pytest.raises(FormatError, match="not a checkpoint of phiedge's"):
        write(tmp_path / "checkpoint", overwrite=True)
    assert (tmp_path / "checkpoint" / "notes").read_text() == "mine"


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with CheckpointDirectory(tmp_path / "checkpoint"):
        with pytest.raises(FormatError, match="another process is writing"):
            write(tmp_path / "checkpoint")


def test_too_little_space_is_told_with_both_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with CheckpointDirectory(tmp_path / "checkpoint") as directory:
        with pytest.raises(FormatError, match="needs 2.0 MB, .* has 1.0 MB free"):
            directory.require_space(2_000_000)


def test_a_disk_that_fills_up_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is full") as told:
        with CheckpointDirectory(tmp_path / "checkpoint"):
            raise OSError(errno.ENOSPC, "no space left on device")
    assert "nothing of this checkpoint was left behind" in str(told.value.remedy)
    assert list(tmp_path.iterdir()) == []
