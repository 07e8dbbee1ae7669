import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command_lines import assert_refused, tell
from phiedge.bundle import Bundle

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from phiedge.cli import main
sys.exit(main(["export", "--target", "orin", "-o", sys.argv[1]]))
"""


def test_the_reference_model_is_exported_for_orin_by_default(reference_export: Any) -> None:
    told, bundle = reference_export.told, Bundle.open(reference_export.path)
    assert told.keys() == {
        "bundle",
        "target",
        "model",
        "precision",
        "group_size",
        "kv_cache",
        "vision",
        "max_context",
        "files",
        "bytes",
        "report",
        "notes",
        "end_to_end",
        "accuracy",
        "calibration_s",
        "also",
    }
    assert told["calibration_s"] is None, "nothing was calibrated"
    assert (told["bundle"], told["target"]) == (str(bundle.path), "agx-orin-64")
    assert (told["model"], bundle.manifest.model.source) == ("phiedge-reference", "reference")
    assert (told["precision"], told["group_size"]) == ("int4", 128)
    assert told["max_context"] == bundle.manifest.facts.max_position_embeddings
    assert told["files"] == len(bundle.manifest.files)
    assert told["bytes"] == sum(entry.bytes for entry in bundle.manifest.files.values())
    assert bundle.check_files() == []


def test_what_is_told_as_json_is_in_the_report_of_the_bundle(reference_export: Any) -> None:
    report = json.loads((reference_export.path / "quantization.json").read_bytes())
    for part in ("notes", "end_to_end", "accuracy"):
        assert reference_export.told[part] == report[part]


def test_a_person_reads_what_was_made_and_what_it_cost(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bundle"
    told = tell(capsys, "export", "-t", "cpu", "-m", tiny_checkpoint, "-o", output, "--max-context", 1024)
    assert (told.code, told.err) == (0, "")
    lines = told.out.splitlines()
    assert lines[0].split() == ["model", "checkpoint"], "there is no line of column names"
    rows = {line[:12].strip(): line[12:].strip() for line in lines}
    assert rows["decoder"] == "int4, groups of 32"
    assert rows["lm_head"] == "int8, groups of 32"
    assert rows["context"] == "1024 tokens"
    assert rows["beside fp32"].startswith("logit cosine 0.9")
    assert lines[-1] == f"written to {output}"


@pytest.mark.parametrize(("seconds", "told_time"), [(12.34, "took 12.3 s"), (5430.0, "took 90.5 min")])
def test_how_long_calibration_took_is_printed_and_in_the_json(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seconds: float,
    told_time: str,
) -> None:  # fmt: skip
    def calibrates(*_: object, calibration_took_s: Callable[[float], None], **__: object) -> Bundle:
        calibration_took_s(seconds)
        return tiny_bundle

    monkeypatch.setattr("phiedge.pipeline.export", calibrates)
    words = ("export", "-t", "cpu", "--calibration", "builtin", "-o", tiny_bundle.path)
    assert tell(capsys, *words, "--json").json["calibration_s"] == seconds
    (line,) = [line for line in tell(capsys, *words).out.splitlines() if line.startswith("calibration")]
    assert line.split(maxsplit=1)[1].strip() == told_time


def test_an_existing_bundle_is_replaced_only_when_asked(
    tiny_bundle: Bundle, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
    words = ("export", "-t", "cpu", "-m", tiny_checkpoint, "-o", output, "--precision", "fp32", "--max-context", 512)
    assert assert_refused(capsys, *words) == f"{output} already holds a bundle"
    assert Bundle.open(output).manifest.precision.name == "int4"
    told = tell(capsys, *words, "--overwrite", "--json")
    assert told.json["notes"] == ["fp32 is what other precisions are compared with"]
    assert Bundle.open(output).manifest.precision.name == "fp32"


def test_a_device_that_does_not_exist_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "phiedge", "export", "-t", "orni", "-o", str(tmp_path / "b")]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 2
    assert "error: no device is called 'orni'" in finished.stderr
    assert "torch" not in finished.stderr


def test_without_the_extra_the_pip_line_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "bundle")]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr == (
        "error: phiedge export needs the 'export' extra (torch is not installed)\n"
        "remedy: pip install 'phiedge[export]'\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["export", "run"])
def test_the_examples_of_a_help_page_stand_on_lines_of_their_own(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = tell(capsys, verb, "-h").out.splitlines()
    assert max(map(len, lines)) <= 80
    examples = lines[lines.index("  Examples:") + 1 : lines.index("Options:" if verb == "export" else "Arguments:") - 1]
    assert len(examples) >= 2
    assert all(example.startswith(f"    phiedge {verb} ") for example in examples)
