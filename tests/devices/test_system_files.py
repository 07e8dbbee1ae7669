"""Files of a system: whatever is wrong with one, the answer is None."""

import os
from pathlib import Path

import pytest

from phiedge.devices.system_files import MOST_BYTES, SystemFiles, named_numbers, whole_number


@pytest.fixture
def files(tmp_path: Path) -> SystemFiles:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "name").write_text("  orin\n")
    return SystemFiles(root=tmp_path)


def test_a_text_has_no_space_around_it_and_no_nul(files: SystemFiles) -> None:
    (files.root / "model").write_bytes(b"Jetson\0AGX\0")
    assert files.text("/etc/name") == "orin"
    assert files.text("model") == "Jetson AGX"


@pytest.mark.parametrize("path", ["/etc/missing", "/etc", "/etc/name/below", "/etc/na\0me", "/no/directory"])
def test_what_cannot_be_read_is_none(files: SystemFiles, path: str) -> None:
    assert files.text(path) is None
    assert files.number(path) is None


def test_a_pipe_does_not_keep_the_reader_waiting(files: SystemFiles) -> None:
    os.mkfifo(files.root / "pipe")
    assert files.text("/pipe") is None


def test_bytes_that_are_no_text_are_read_and_a_long_file_is_cut(files: SystemFiles) -> None:
    (files.root / "noise").write_bytes(b"\xff\xfe" * MOST_BYTES)
    assert len(files.text("/noise") or "") == MOST_BYTES


def test_a_link_that_starts_at_the_root_stays_in_the_tree(files: SystemFiles) -> None:
    (files.root / "etc" / "link").symlink_to("/etc/name")
    (files.root / "etc" / "up").symlink_to("../../../etc/name")
    (files.root / "etc" / "host").symlink_to("/etc/hostname")
    assert files.text("/etc/link") == "orin"
    assert files.text("/etc/up") == "orin"
    assert files.text("/etc/host") is None


def test_links_in_a_circle_lead_nowhere(files: SystemFiles) -> None:
    (files.root / "one").symlink_to("two")
    (files.root / "two").symlink_to("one")
    assert files.text("/one") is None
    assert not files.exists("/one")


def test_names_come_in_the_order_of_their_numbers(files: SystemFiles) -> None:
    for number in (10, 9, 0):
        (files.root / f"policy{number}").mkdir()
    assert files.names("/", "policy*") == ("//policy0", "//policy9", "//policy10")
    assert files.names("/missing", "*") == ()


@pytest.mark.parametrize(
    ("text", "number"), [("12\n", 12), ("-256000", -256000), ("", None), ("1.5", None), ("9" * 5000, None), ("²", None)]
)
def test_a_whole_number_is_one_or_nothing(text: str, number: int | None) -> None:
    assert whole_number(text) == number


def test_named_numbers_are_bytes_where_kilobytes_are_said() -> None:
    text = "MemTotal:    2 kB\ninactive_file 7\nName:\tpython\nHugePages_Total:   3\nOdd: 4 MB\n"
    assert named_numbers(text) == {"MemTotal": 2048, "inactive_file": 7, "HugePages_Total": 3}
    assert named_numbers(None) == {}
