"""The whole export, on checkpoints of two small layers."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fake_checkpoints import FakeDims, write_checkpoint
from phiedge import __version__
from phiedge.bundle import Bundle, hash_file
from phiedge.errors import BundleError, CheckpointError, ExportError, UnknownDeviceError, UsageError
from phiedge.pipeline import export, report
from phiedge.pipeline.golden_questions import golden_questions
from phiedge.runtime.goldens import Golden, load
from phiedge.runtime.session import Session


def read_report(bundle: Bundle) -> dict[str, Any]:
    assert bundle.manifest.quantization is not None
    return json.loads(bundle.file(bundle.manifest.quantization).read_bytes())


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_same_input_gives_the_same_bytes_in_another_process(
    tiny_checkpoint: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    again = tmp_path / "other name"
    command = [sys.executable, "-m", "phiedge", "export", "-t", "cpu", "-m", str(tiny_checkpoint), "-o", str(again)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONHASHSEED": "7"})
    assert names(again) == names(tiny_bundle.path)
    changed = [name for name in names(again) if (again / name).read_bytes() != (tiny_bundle.path / name).read_bytes()]
    assert changed == []


def test_the_manifest_says_where_everything_came_from(tiny_checkpoint: Path, tiny_bundle: Bundle) -> None:
    manifest = tiny_bundle.manifest
    assert manifest.phiedge_version == __version__
    assert (manifest.model.name, manifest.model.source) == ("checkpoint", "directory")
    assert (manifest.model.id, manifest.model.revision) == (None, None)
    assert {name: entry.sha256 for name, entry in manifest.model.files.items()} == {
        path.name: hash_file(path) for path in tiny_checkpoint.iterdir()
    }
    assert manifest.target == {"name": "cpu", "title": "The CPU of the machine it runs on", "sm": None}
    assert (manifest.precision.name, manifest.precision.group_size) == ("int4", 32)
    assert {"torch", "onnx", "numpy"} <= manifest.tools.keys()
    assert str(tiny_checkpoint.parent) not in (tiny_bundle.path / "manifest.json").read_text()


def test_the_context_is_what_the_model_has_but_no_more_than_the_default(tiny_bundle: Bundle) -> None:
    assert tiny_bundle.manifest.facts.max_position_embeddings == 32768
    assert tiny_bundle.manifest.max_context == 8192


def test_every_byte_of_an_export_is_listed(tiny_bundle: Bundle) -> None:
    assert tiny_bundle.check_files() == []


def test_the_goldens_go_with_and_without_pictures_and_thinking(tiny_bundle: Bundle) -> None:
    goldens = load(tiny_bundle)
    assert [golden.question.name for golden in goldens] == [question.name for question in golden_questions()]
    assert {len(golden.question.pictures) for golden in goldens} == {0, 1, 2}
    assert {golden.question.think for golden in goldens} == {"on", "off", "auto"}


def test_the_report_tells_what_became_of_every_quantised_tensor(tiny_bundle: Bundle) -> None:
    told = read_report(tiny_bundle)
    assert (told["precision"], told["method"], told["group_size"]) == ("int4", "round to nearest", 32)
    decoder = [row for row in told["tensors"] if row["name"].startswith("model.layers.")]
    assert len(decoder) == 2 * 4, "qkv, o, gate_up and down of each layer"
    assert {row["bits"] for row in decoder} == {4}
    assert told["totals"]["stored_bytes"] == sum(row["stored_bytes"] for row in told["tensors"])


def test_the_report_compares_the_export_with_fp32(tiny_bundle: Bundle) -> None:
    told = read_report(tiny_bundle)
    assert 0.9 < told["end_to_end"]["cosine_mean"] < 1.0
    assert told["end_to_end"]["positions"] == sum(len(golden.token_ids) for golden in load(tiny_bundle))
    assert told["accuracy"] is None, "only the reference model has a suite"
    assert told["notes"] == []


def test_the_reference_model_is_scored_in_both_precisions(exported_bundle: Path) -> None:
    told = read_report(Bundle.open(exported_bundle))
    accuracy = told["accuracy"]
    assert accuracy["suite"] == "phiedge-reference-scenes-1"
    assert accuracy["asked"] == 120
    assert accuracy["fp32_tasks"].keys() == accuracy["quantised_tasks"].keys()
    assert len(accuracy["fp32_tasks"]) == 6
    for share in (accuracy["fp32"], accuracy["quantised"], accuracy["chance"]):
        assert 0.0 <= share <= 1.0


def test_the_copy_at_fp32_stands_inside_the_unfinished_bundle_and_is_gone_afterwards(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def look(quantised: Session, goldens: Sequence[Golden], fp32: Session, **_: object) -> None:
        seen.append(fp32.bundle.path)
        assert fp32.bundle.manifest.precision.name == "fp32"
        assert quantised.bundle.manifest.precision.name == "fp16"

    monkeypatch.setattr(report, "end_to_end", look)
    bundle = export(str(tiny_checkpoint), target="orin", precision="fp16", output=tmp_path / "bundle", max_context=1024)
    assert seen[0].parent.name.startswith(".bundle.partial-")
    assert not seen[0].exists()
    assert names(tmp_path) == ["bundle"]
    assert not [name for name in bundle.manifest.files if "fp32" in name]


def test_fp32_is_compared_with_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(str(tiny_checkpoint), target="rtx", precision="fp32", output=tmp_path / "bundle", max_context=1024)
    told = read_report(bundle)
    assert told["end_to_end"] is None
    assert told["notes"] == ["fp32 is what other precisions are compared with"]
    assert (told["method"], told["tensors"]) == ("none", [])


def test_a_context_that_holds_no_picture_keeps_the_goldens_that_fit(tiny_checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(str(tiny_checkpoint), target="cpu", output=tmp_path / "bundle", max_context=128)
    assert [golden.question.name for golden in load(bundle)] == ["text"]
    assert bundle.manifest.max_context == 128


def test_a_context_that_holds_no_question_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a context of 16 tokens does not hold even a short question"):
        export(str(tiny_checkpoint), target="cpu", output=tmp_path / "bundle", max_context=16)
    assert names(tmp_path) == []


@pytest.mark.parametrize("max_context", [0, -1, 32769])
def test_a_context_that_the_model_does_not_have_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, max_context: int
) -> None:
    with pytest.raises(UsageError, match=f"a context of {max_context} tokens: .* 1 to 32768"):
        export(str(tiny_checkpoint), target="cpu", output=tmp_path / "bundle", max_context=max_context)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"target": "orni"}, UnknownDeviceError),
        ({"target": "cpu", "precision": "int3"}, UsageError),
        ({"target": "cpu", "precision": "fp8"}, UsageError),
        ({"target": "cpu", "calibration": "built-in"}, UsageError),
        ({"target": "cpu", "calibration": "builtin", "precision": "fp32"}, UsageError),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_touched(
    tmp_path: Path, options: dict[str, str], error: type[UsageError]
) -> None:
    with pytest.raises(error):
        export("no such checkpoint", output=tmp_path / "bundle", **options)
    assert names(tmp_path) == []


def test_an_existing_bundle_is_kept_and_told_of_before_the_checkpoint_is_opened(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
    with pytest.raises(BundleError, match="already holds a bundle"):
        export("no such checkpoint", target="cpu", output=tmp_path / "bundle")
    assert Bundle.open(tmp_path / "bundle").check_files() == []


def test_a_template_that_makes_no_prompt_is_refused_before_any_weight_is_written(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "chat_template.jinja").write_text("a template that drops the question")
    with pytest.raises(CheckpointError, match="makes no prompt: the prompt has 0 <image> placeholders") as caught:
        export(str(tmp_path / "checkpoint"), target="cpu", output=tmp_path / "bundle")
    assert "chat_template.jinja" in str(caught.value.remedy)
    assert names(tmp_path) == ["checkpoint"]


def test_a_model_that_overflows_is_no_bundle(tmp_path: Path) -> None:
    huge = np.full(FakeDims().hidden_size, 3e38, np.float32)
    write_checkpoint(tmp_path / "checkpoint", replace={"model.norm.weight": huge})
    with pytest.raises(ExportError, match="the bundle does not compute what can be used"):
        export(str(tmp_path / "checkpoint"), target="cpu", output=tmp_path / "bundle", max_context=512)
    assert names(tmp_path) == ["checkpoint"]


def test_what_the_disk_cannot_hold_is_refused_before_any_weight_is_written(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(BundleError, match=r"the bundle needs 0\.\d MB, .* has 0\.0 MB free"):
        export(str(tiny_checkpoint), target="cpu", output=tmp_path / "bundle")
    assert names(tmp_path) == []
