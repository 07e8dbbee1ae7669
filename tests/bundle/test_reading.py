import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from phiedge.bundle import Bundle, Problem
from phiedge.errors import BundleError, IntegrityError, SchemaError


def test_a_bundle_opens_wherever_it_was_moved_to(plain_bundle: Bundle, tmp_path: Path) -> None:
    moved = shutil.move(plain_bundle.path, tmp_path / "elsewhere")
    assert Bundle.open(moved).manifest == plain_bundle.manifest
    assert Bundle.open(moved).file("tokenizer.json").read_bytes() == b"{}"


def test_a_file_that_is_not_listed_is_not_given_out(plain_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="does not list a file 'other'"):
        plain_bundle.file("other")


def test_what_does_not_exist_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no bundle at") as caught:
        Bundle.open(tmp_path / "none")
    assert "phiedge export" in str(caught.value.remedy)


def test_a_directory_without_a_manifest_is_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle: it has no manifest.json"):
        Bundle.open(tmp_path)


def test_a_file_is_not_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="is not a bundle"):
        Bundle.open(tmp_path / "file")


def test_what_a_killed_export_left_does_not_open(plain_bundle: Bundle) -> None:
    partial = plain_bundle.path.rename(plain_bundle.path.with_name(".bundle.partial-123"))
    with pytest.raises(BundleError, match="is what a killed export left behind"):
        Bundle.open(partial)


def test_a_newer_schema_is_told_with_the_path(plain_bundle: Bundle) -> None:
    file = plain_bundle.path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 4}))
    with pytest.raises(SchemaError, match=r"/bundle: written by a newer phiedge \(schema 4"):
        Bundle.open(plain_bundle.path)


def test_a_missing_file_is_found_on_opening(plain_bundle: Bundle) -> None:
    plain_bundle.file("tokenizer.json").unlink()
    with pytest.raises(IntegrityError, match=r"lacks the file tokenizer\.json"):
        Bundle.open(plain_bundle.path)


def test_a_truncated_file_is_found_on_opening(plain_bundle: Bundle) -> None:
    os.truncate(plain_bundle.file("embed_tokens.bin"), 100)
    with pytest.raises(IntegrityError, match=r"embed_tokens\.bin has 100 bytes, the manifest says 512"):
        Bundle.open(plain_bundle.path)


def test_a_file_that_became_a_link_out_of_the_bundle_is_refused(plain_bundle: Bundle, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    plain_bundle.file("tokenizer.json").rename(outside)
    plain_bundle.file("tokenizer.json").symlink_to(outside)
    with pytest.raises(BundleError, match="is a link that leaves the bundle"):
        Bundle.open(plain_bundle.path)


def test_a_whole_bundle_has_no_problems(plain_bundle: Bundle) -> None:
    assert plain_bundle.check_files() == []


def test_every_changed_missing_and_added_file_is_found(plain_bundle: Bundle) -> None:
    changed = plain_bundle.file("decoder.ort.onnx")
    changed.write_bytes(changed.read_bytes().replace(b"d", b"D"))
    plain_bundle.file("tokenizer.json").unlink()
    plain_bundle.file("chat_template.jinja").write_bytes(b"longer")
    (plain_bundle.path / "extra").mkdir()
    (plain_bundle.path / "extra" / "file").write_bytes(b"")
    (plain_bundle.path / "folder").symlink_to("extra")
    problems = {problem.path: problem for problem in plain_bundle.check_files()}
    assert {path: problem.kind for path, problem in problems.items()} == {
        "chat_template.jinja": "changed",
        "decoder.ort.onnx": "changed",
        "extra/file": "added",
        "folder": "added",
        "tokenizer.json": "missing",
    }
    assert problems["chat_template.jinja"].detail == "6 bytes instead of 0"
    assert problems["decoder.ort.onnx"].detail.startswith("sha256 ")


def test_a_single_flipped_bit_is_found(plain_bundle: Bundle) -> None:
    file = plain_bundle.file("embed_tokens.bin")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert [(problem.path, problem.kind) for problem in plain_bundle.check_files()] == [("embed_tokens.bin", "changed")]


def test_engines_and_profiles_are_not_called_added(plain_bundle: Bundle) -> None:
    for name in ("engines/onnxruntime-cpu/graph.onnx", "profiles/this.json", "extra/engines/x"):
        (plain_bundle.path / name).parent.mkdir(parents=True)
        (plain_bundle.path / name).write_bytes(b"x")
    assert plain_bundle.check_files() == [
        Problem(path="extra/engines/x", kind="added", detail="the manifest does not list it")
    ]


def test_a_pipe_in_place_of_a_file_is_not_read(plain_bundle: Bundle) -> None:
    file = plain_bundle.file("chat_template.jinja")
    file.unlink()
    os.mkfifo(file)
    assert [problem.kind for problem in plain_bundle.check_files()] == ["missing"]


class Recorder:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, int, str]] = []
        self.counts: list[int] = []

    @contextmanager
    def task(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        self.tasks.append((name, total, unit))
        yield self.counts.append


def test_hashing_reports_its_progress_in_bytes(plain_bundle: Bundle) -> None:
    recorder = Recorder()
    plain_bundle.check_files(recorder)
    assert recorder.tasks == [("hash", sum(recorder.counts), "B")]
