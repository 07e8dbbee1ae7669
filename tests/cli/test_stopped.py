"""Real processes that are killed, or interrupted by Ctrl-C, in the middle of their work."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from command_lines import stopped_at, tell
from phiedge.bundle import Bundle
from phiedge.errors import BundleError


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def press_ctrl_c(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """Send the signal, and return what was said on stdout and stderr after it."""
    process.send_signal(signal.SIGINT)
    said = process.communicate()
    assert process.returncode == 130, said
    return said


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def test_a_killed_export_leaves_nothing_that_opens_and_the_next_one_cleans_up(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = ("export", "--target", "cpu", "--model", tiny_checkpoint, "--output", tmp_path / "bundle")
    with stopped_at("phiedge.exporters.append_file:AppendFile.append", *export, count=5) as process:
        kill(process)
    (half,) = names(tmp_path)
    assert "decoder.ort.onnx" not in names(tmp_path / half), "it was killed before the weights were there"
    (tmp_path / half / "stranger").write_text("x")

    # All files are there, the manifest too; only the name is not.
    with stopped_at("phiedge.bundle.writing:BundleWriter._rename", *export) as process:
        kill(process)
    (whole,) = names(tmp_path)
    assert "stranger" not in names(tmp_path / whole), "the second export removed what the first left behind"
    assert "manifest.json" in names(tmp_path / whole)

    with pytest.raises(BundleError, match="is what a killed export left behind"):
        Bundle.open(tmp_path / whole)
    for verb in (("verify", tmp_path / whole), ("run", tmp_path / "bundle", "-p", "hello")):
        assert tell(capsys, *verb).code == 1

    assert tell(capsys, *export, "--json").code == 0
    assert names(tmp_path) == ["bundle"]
    assert Bundle.open(tmp_path / "bundle").check_files() == []


@pytest.mark.parametrize(
    "place", ["phiedge.exporters.graphs:trace_decoder", "phiedge.pipeline.report:end_to_end"], ids=["trace", "compare"]
)
def test_an_interrupted_export_leaves_the_old_bundle_and_nothing_else(
    tiny_checkpoint: Path, tiny_bundle: Bundle, tmp_path: Path, place: str
) -> None:
    shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
    words = ("export", "-t", "cpu", "-m", tiny_checkpoint, "-o", tmp_path / "bundle", "--overwrite")
    with stopped_at(place, *words) as process:
        assert names(tmp_path) != ["bundle"], "it is writing"
        assert press_ctrl_c(process) == ("", "error: interrupted\n")
    assert names(tmp_path) == ["bundle"]
    assert Bundle.open(tmp_path / "bundle").check_files() == []


def test_an_interrupted_answer_ends_where_it_is(tiny_bundle: Bundle) -> None:
    words = ("run", tiny_bundle.path, "-p", "What is this?")
    with stopped_at("phiedge.runtime.loaded_model:LoadedModel.step", *words, count=20) as process:
        assert press_ctrl_c(process) == ("", "error: interrupted\n")


@pytest.mark.parametrize(
    ("place", "count"), [("phiedge.bundle.reading:hash_file", 3), ("phiedge.runtime.goldens:_logits", 2)]
)
def test_an_interrupted_check_has_no_verdict(tiny_bundle: Bundle, place: str, count: int) -> None:
    with stopped_at(place, "verify", tiny_bundle.path, "--json", count=count) as process:
        out, err = press_ctrl_c(process)
    assert json.loads(out) == {"error": {"type": "Interrupted", "message": "interrupted", "remedy": None}}
    assert err == ""
