"""Exports with a vision graph in 8 bits: what is refused, what is told, and what the bundle answers."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from phiedge.bundle import Bundle, FileEntry, hash_file
from phiedge.bundle.manifest import Precision
from phiedge.cli import main
from phiedge.devices import find
from phiedge.errors import BundleError, ExportError, FormatError, InputError, UsageError
from phiedge.exporters.checkpoint import open_checkpoint
from phiedge.exporters.precision import FP16, FP32, INT4, choose_precision
from phiedge.pipeline import export
from phiedge.pipeline.contents import dialects_for
from phiedge.pipeline.inspection import inspect_bundle
from phiedge.pipeline.report_agreement import check_report
from phiedge.pipeline.report_page import report_page
from phiedge.pipeline.vision_calibrating import (
    calibrate_vision_for_export,
    check_vision_precision,
    vision_directory,
)
from phiedge.runtime import goldens
from phiedge.runtime.session import Session


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> Path:
    """Nine questions about a picture each, of which the first judges."""
    directory = tmp_path_factory.mktemp("data")
    rng, lines = np.random.default_rng(6), []
    for place in range(9):
        pixels = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 64)).save(directory / f"{place}.png")
        lines.append({"prompt": "What is it?", "images": [f"{place}.png"], "answer": "A picture. " * 4})
    path = directory / "examples.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def exported(examples, tmp_path_factory) -> Bundle:
    """The reference model, its decoder as it is and vision in int8."""
    output = tmp_path_factory.mktemp("int8-vision") / "bundle"
    return export(
        target="cpu",
        precision="fp32",
        calibration=str(examples),
        vision_precision="int8",
        max_context=1024,
        output=output,
    )


def read_report(bundle: Bundle) -> dict[str, Any]:
    return json.loads(bundle.file(str(bundle.manifest.quantization)).read_bytes())


def test_manifest_and_report_tell_of_the_same_vision(exported: Bundle) -> None:
    told = read_report(exported)["vision"]
    assert (exported.manifest.precision.vision, exported.manifest.precision.projector) == ("int8", "int8")
    assert (told["stored_as"], told["data"], told["samples"]) == ("int8", "examples.jsonl", 9)
    assert (told["pictures"], told["held_out"]) == (8, 1)
    assert told["stages"][-1]["relative_error"] == told["features_error"] < 1e-2
    assert [one["linear"] for one in told["stages"][0]["linears"]] == ["qkv", "out", "fc1", "fc2"]
    assert {row["method"] for row in read_report(exported)["tensors"]} <= {"rtn", "mse"}
    assert read_report(exported)["end_to_end"]["cosine_mean"] > 0.99


def test_the_directory_of_the_calibration_is_gone(exported: Bundle) -> None:
    assert not vision_directory(exported.path).exists()


def test_a_session_looks_at_a_picture_and_says_what_the_goldens_say(exported: Bundle) -> None:
    rows = goldens.check(exported)
    assert all(row.ok for row in rows)
    assert {row.tolerance for row in rows} == {0.05}, "a last bit before a rounding decides some of them otherwise"
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    with Session.open(exported, max_context=512, threads=1) as session:
        assert session.generate("What is it?", [picture], max_new_tokens=3).token_ids


def test_inspect_shows_what_vision_is_stored_as_and_what_that_cost(exported: Bundle) -> None:
    layers = [layer for layer in inspect_bundle(exported).layers if layer.part in ("vision", "projector")]
    coded = [layer for layer in layers if layer.stored_as == "int8"]
    assert len(layers) == len(coded) + 1
    assert all(layer.relative_l2 is not None and 0 < layer.relative_l2 < 0.05 for layer in coded)
    for layer in coded:
        assert layer.stored_bytes == layer.shape[0] * layer.shape[1] + 2 * layer.shape[0]


def test_the_page_has_every_stage(exported: Bundle) -> None:
    page = report_page(read_report(exported), model="reference", target="cpu")
    assert "<h2>Vision in 8 bits</h2>" in page
    assert "8 pictures (examples.jsonl" in page
    for stage in read_report(exported)["vision"]["stages"]:
        assert f"<td>{stage['stage']}</td>" in page


@pytest.fixture
def edited(exported: Bundle, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], object]], list[str]]:
    """What `check_report` says once the report was changed, and the manifest sealed anew."""

    def edit(change: Callable[[dict[str, Any]], object]) -> list[str]:
        copied = Bundle.open(shutil.copytree(exported.path, tmp_path / "bundle"))
        path = copied.file("quantization.json")
        report = json.loads(path.read_bytes())
        change(report)
        path.write_text(json.dumps(report))
        entry = FileEntry(sha256=hash_file(path), bytes=path.stat().st_size)
        manifest = replace(copied.manifest, files={**copied.manifest.files, "quantization.json": entry})
        (copied.path / "manifest.json").write_bytes(manifest.to_bytes())
        return [problem.detail for problem in check_report(Bundle.open(copied.path))]

    return edit


def test_a_report_as_it_was_written_agrees(exported: Bundle) -> None:
    assert check_report(exported) == []


def test_a_report_of_other_codes_or_another_type_is_found(edited) -> None:
    found = edited(lambda report: report["tensors"][0].update(sha256="0" * 64))
    assert len(found) == 1
    assert "codes and scales are sha256" in found[0]


def test_a_report_that_hides_a_tensor_is_found(edited) -> None:
    found = edited(lambda report: report["tensors"].pop())
    assert found == ["model.mm_projector.2.weight is quantised, and the report has no row for it"]


def test_a_report_that_says_nothing_of_vision_is_found(edited) -> None:
    assert edited(lambda report: report.update(vision=None)) == ["vision is None in the report, int8 in the manifest"]


@pytest.mark.parametrize(
    ("asked", "target", "precision", "told", "remedy"),
    [
        ("int4", "cpu", "int4", "there is no vision encoder in 'int4'", "--vision-precision float, int8 or fp8"),
        ("fp8", "cpu", "int4", "cpu has no units for a vision encoder in fp8", "--vision-precision int8, or --target"),
        ("fp8", "orin", "int4", r"no units for a vision encoder in fp8 \(SM 8.7\)", "--vision-precision int8, or"),
        (
            "int8",
            "cpu",
            "fp16",
            "beside float32, and --precision fp16 computes in float16",
            "int4 or fp32",
        ),
        ("int8", "rtx-4090", "fp32", "with --precision fp32 has no graphs for it", "leave --precision fp32 out"),
    ],
)
def test_what_no_kernel_multiplies_is_refused(asked, target, precision, told, remedy) -> None:
    device = find(target)
    plan = choose_precision(precision, sm=device.sm_number).plan
    with pytest.raises(UsageError, match=told) as raised:
        check_vision_precision(asked, device, plan)
    assert remedy in str(raised.value.remedy)


def test_a_cache_in_int8_leaves_no_graph_that_multiplies_vision_in_8_bits() -> None:
    with pytest.raises(UsageError, match="with --kv-cache int8 has no graphs for it"):
        check_vision_precision("int8", find("rtx-4090"), replace(FP16, cache="int8"))
    assert check_vision_precision("int8", find("cpu"), replace(INT4, cache="int8")) == "int8"
    assert check_vision_precision("float", find("rtx-4090"), replace(FP16, cache="int8")) is None


def test_dialects_are_those_that_have_kernels() -> None:
    assert dialects_for(find("orin"), replace(INT4, vision_linears="int8")) == ("ort", "tensorrt", "tensorrt-10.3")
    assert dialects_for(find("thor-t5000"), replace(FP16, vision_linears="float8")) == ("ort", "tensorrt")
    assert dialects_for(find("cpu"), replace(FP32, vision_linears="int8")) == ("ort",)


def test_a_bad_combination_leaves_nothing_behind(tmp_path: Path, capsys) -> None:
    output = tmp_path / "bundle"
    assert main(["export", "-t", "cpu", "--vision-precision", "fp8", "-o", str(output)]) == 2
    assert "error: cpu has no units for a vision encoder in fp8" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_for_vllm_holds_no_vision_in_8_bits(tmp_path: Path, exported: Bundle) -> None:
    with pytest.raises(FormatError, match="compressed-tensors holds vision in floats"):
        export(target="orin", vision_precision="int8", output=tmp_path / "bundle", also=["compressed-tensors"])
    assert list(tmp_path.iterdir()) == []


def test_examples_without_pictures_are_refused(tiny_checkpoint, text_examples, tmp_path: Path) -> None:
    with open_checkpoint(str(tiny_checkpoint)) as source, pytest.raises(InputError, match="have 0 pictures"):
        calibrate_vision_for_export(source, "int8", str(text_examples), tmp_path / "vision", max_context=1024)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_refused(tiny_checkpoint, examples, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with open_checkpoint(str(tiny_checkpoint)) as source, pytest.raises(ExportError, match="vision encoder needs"):
        calibrate_vision_for_export(source, "int8", str(examples), tmp_path / "vision", max_context=1024)


def test_a_manifest_with_a_vision_graph_of_something_else_is_refused(exported: Bundle) -> None:
    with pytest.raises(BundleError, match="a vision graph of int3 does not exist"):
        replace(exported.manifest.precision, vision="int3")
    assert isinstance(exported.manifest.precision, Precision)
