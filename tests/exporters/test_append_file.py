import hashlib
from pathlib import Path

import numpy as np

from phiedge.bundle import FileEntry, hash_file
from phiedge.exporters.append_file import AppendFile


def entry_of(data: bytes) -> FileEntry:
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def test_what_is_appended_is_there_and_hashed(tmp_path: Path) -> None:
    with AppendFile.fresh(tmp_path / "f") as file:
        assert file.append(np.arange(3, dtype=np.uint16)) == 6
        file.pad_to(8)
        assert file.append(np.array([[1.0]], np.float32)) == 4
        file.flush()
        entry = file.entry()
    assert (tmp_path / "f").read_bytes() == bytes([0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0x80, 0x3F])
    assert entry == FileEntry(sha256=hash_file(tmp_path / "f"), bytes=12)


def test_an_array_that_is_not_contiguous_is_written_row_by_row(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    with AppendFile.fresh(tmp_path / "f") as file:
        file.append(values.T)
    assert (tmp_path / "f").read_bytes() == bytes([0, 3, 1, 4, 2, 5])


def test_a_file_is_taken_up_after_what_was_held_and_the_rest_cut_off(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"heldlost")
    file = AppendFile.resumed(tmp_path / "f", entry_of(b"held"))
    assert file is not None
    with file:
        assert file.size_bytes == 4
        file.append(np.frombuffer(b"new", np.uint8))
        assert file.entry() == entry_of(b"heldnew")
    assert (tmp_path / "f").read_bytes() == b"heldnew"


def test_a_file_that_does_not_begin_as_it_should_is_not_taken_up(tmp_path: Path) -> None:
    for wrong in (b"hel", b"h3ldlost"):
        (tmp_path / "f").write_bytes(wrong)
        assert AppendFile.resumed(tmp_path / "f", entry_of(b"held")) is None
    (tmp_path / "f").unlink()
    assert AppendFile.resumed(tmp_path / "f", entry_of(b"held")) is None
