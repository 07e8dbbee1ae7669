"""`phiedge repack`, and `phiedge export --also`, through the command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from command_lines import assert_refused, tell
from phiedge.bundle import Bundle, hash_file


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_checkpoint_is_written_beside_the_bundle(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(exported_bundle, bundle)
    told = tell(capsys, "repack", bundle, "--format", "modelopt", "--json")
    assert (told.code, told.err) == (0, "")
    assert told.json == {
        "bundle": str(bundle),
        "format": "modelopt",
        "checkpoint": str(tmp_path / "bundle.modelopt"),
        "files": 8,
        "bytes": told.json["bytes"],
    }
    record = json.loads((tmp_path / "bundle.modelopt" / "phiedge.json").read_text())
    assert names(tmp_path / "bundle.modelopt") == sorted([*record["files"], "phiedge.json"])
    assert told.json["bytes"] == sum(file["bytes"] for file in record["files"].values())
    assert names(tmp_path) == ["bundle", "bundle.modelopt"]
    message = assert_refused(capsys, "repack", bundle, "--format", "modelopt")
    assert message.endswith("already holds a checkpoint")
    again = tell(capsys, "repack", bundle, "--format", "modelopt", "--overwrite")
    assert again.out.splitlines()[-1] == f"written to {tmp_path / 'bundle.modelopt'}"


def test_the_same_bundle_gives_the_same_bytes(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        assert tell(capsys, "repack", exported_bundle, "--format", "awq", "-o", tmp_path / name).code == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()
    }


def test_a_format_that_does_not_exist_is_refused(exported_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = assert_refused(capsys, "repack", exported_bundle, "--format", "awqq", code=2)
    assert message == "there is no checkpoint format 'awqq'"


def test_a_damaged_bundle_is_refused_before_anything_is_written(
    exported_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(exported_bundle, bundle)
    data = bytearray((bundle / "decoder.data").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "decoder.data").write_bytes(data)
    message = assert_refused(capsys, "repack", bundle, "--format", "awq")
    assert "decoder.data is changed" in message
    assert names(tmp_path) == ["bundle"]


def test_groups_that_readers_misread_are_refused(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    message = assert_refused(capsys, "repack", tiny_bundle.path, "--format", "awq")
    assert "awq is read in groups of 128 weights" in message


@pytest.mark.parametrize(
    ("also", "message", "code"),
    [
        ("awq,nothing", "there is no checkpoint format 'nothing'", 2),
        ("awq,awq", "--also names awq twice", 2),
        ("awq", "awq is read in groups of 128 weights, {} has groups of 32: its readers would misread them", 1),
    ],
)
def test_what_cannot_be_written_too_is_refused_before_the_export(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], also: str, message: str, code: int
) -> None:
    output = tmp_path / "bundle"
    words = ("export", "-t", "cpu", "-m", tiny_checkpoint, "-o", output, "--also", also)
    assert assert_refused(capsys, *words, code=code) == message.format(output)
    assert names(tmp_path) == []


def test_a_taken_name_is_refused_before_the_export(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "bundle.compressed-tensors"
    taken.mkdir()
    (taken / "mine").write_text("x")
    words = ("export", "-t", "cpu", "-m", tiny_checkpoint, "-o", tmp_path / "bundle", "--also", "compressed-tensors")
    assert "is left as it is" in assert_refused(capsys, *words)
    assert names(tmp_path) == ["bundle.compressed-tensors"]


def test_an_export_writes_checkpoints_too(reference_export: Any) -> None:
    bundle, (written,) = reference_export.path, reference_export.told["also"]
    assert Path(written) == bundle.with_name(f"{bundle.name}.compressed-tensors")
    record = json.loads((Path(written) / "phiedge.json").read_text())
    assert record["manifest_sha256"] == hash_file(bundle / "manifest.json")
    assert all((Path(written) / name).stat().st_size == file["bytes"] for name, file in record["files"].items())
