"""Exports with calibration, of the checkpoint with two small layers."""

import json
import re
from pathlib import Path

import pytest

from fake_checkpoints import FakeDims, write_checkpoint
from phiedge.bundle import Bundle
from phiedge.calibration.decoder_layer import linear_name
from phiedge.errors import ExportError, InputError, UsageError
from phiedge.pipeline import export
from phiedge.pipeline.calibrating import calibration_directory


@pytest.fixture(scope="module")
def examples(text_examples) -> Path:
    return text_examples


@pytest.fixture(scope="module")
def calibrated(tiny_checkpoint, examples, tmp_path_factory) -> Bundle:
    output = tmp_path_factory.mktemp("calibrated") / "bundle"
    return export(str(tiny_checkpoint), target="cpu", calibration=str(examples), output=output, max_context=1024)


def read_report(bundle: Bundle) -> dict:
    return json.loads(bundle.file(str(bundle.manifest.quantization)).read_bytes())


def test_the_report_tells_the_method_of_each_tensor_and_what_each_lost(calibrated) -> None:
    told = read_report(calibrated)
    assert told["method"] == "calibrated"
    layers = told["calibration"]["layers"]
    chosen = {linear_name(layer["layer"], row["linear"]): row["method"] for layer in layers for row in layer["linears"]}
    assert {row["name"]: row["method"] for row in told["tensors"]} == chosen | {"lm_head.weight": "rtn"}
    assert told["calibration"]["samples"] == 16
    assert told["calibration"]["held_out"] == 2
    assert told["calibration"]["rows"]["visual"] == 0
    assert told["calibration"]["divergence"]["all"]["kl_mean"] > 0


def test_the_report_has_scales_for_a_cache_in_either_format_even_where_the_graph_has_none(calibrated) -> None:
    told, facts = read_report(calibrated)["kv_cache"], calibrated.manifest.facts
    assert (told["stored_as"], told["graph_sha256"], told["samples"]) == (None, None, 14)
    for form in ("int8", "float8"):
        for side in ("key", "value"):
            assert len(told[form][side]) == facts.num_layers
            assert min(told[form][side]) > 0
    # Both cover about the same numbers, int8 with 127 steps and float8 up to 448.
    assert 1 < told["int8"]["key"][0] / told["float8"]["key"][0] < 2 * 448 / 127
    assert [layer["layer"] for layer in told["layers"]] == list(range(facts.num_layers))


def test_a_calibrated_bundle_runs_and_verifies(calibrated) -> None:
    assert calibrated.check_files() == []
    assert read_report(calibrated)["end_to_end"]["cosine_mean"] > 0.9


def test_for_a_gpu_the_head_of_4_bits_is_calibrated_too(examples, wide_checkpoint, tmp_path) -> None:
    bundle = export(
        str(wide_checkpoint), target="rtx-4090", calibration=str(examples), method="gptq", output=tmp_path / "bundle"
    )
    told = read_report(bundle)
    head = told["calibration"]["head"]
    assert head["errors"][head["method"]] < head["errors"]["rtn"]
    assert {row["name"]: row["method"] for row in told["tensors"]}["lm_head.weight"] == head["method"]


def test_nothing_is_left_beside_the_bundle(calibrated) -> None:
    assert [path.name for path in calibrated.path.parent.iterdir()] == ["bundle"]


def test_the_same_examples_give_the_same_bytes(calibrated, tiny_checkpoint, examples, tmp_path) -> None:
    took_s = []
    again = export(
        str(tiny_checkpoint), target="cpu", calibration=str(examples), output=tmp_path / "again", max_context=1024,
        calibration_took_s=took_s.append,
    )  # fmt: skip
    assert len(took_s) == 1
    assert took_s[0] > 0, "that is told, and not in the bytes"
    assert (again.path / "manifest.json").read_bytes() == (calibrated.path / "manifest.json").read_bytes()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_precisions_without_small_integers_are_refused(tiny_checkpoint, examples, tmp_path, precision) -> None:
    with pytest.raises(UsageError, match=f"--precision {precision} has nothing to calibrate"):
        export(
            str(tiny_checkpoint), target="cpu", precision=precision, calibration=str(examples), output=tmp_path / "b"
        )


def test_calibration_data_that_is_not_there_is_refused_before_anything_is_read(tmp_path) -> None:
    with pytest.raises(UsageError, match="there is no calibration 'gone.jsonl'"):
        export("nowhere", target="cpu", calibration="gone.jsonl", output=tmp_path / "b")
    with pytest.raises(UsageError, match="--calibration builtin:none asks for no number"):
        export("nowhere", target="cpu", calibration="builtin:none", output=tmp_path / "b")
    with pytest.raises(UsageError, match="there is no method 'magic'"):
        export("nowhere", target="cpu", calibration="builtin", method="magic", output=tmp_path / "b")
    with pytest.raises(UsageError, match="--method awq needs data"):
        export("nowhere", target="cpu", method="awq", output=tmp_path / "b")


def test_too_little_data_leaves_nothing(tiny_checkpoint, tmp_path) -> None:
    path = tmp_path / "few.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"What is {n}?"}) + "\n" for n in range(8)))
    with pytest.raises(InputError, match=re.escape("are too few")):
        export(str(tiny_checkpoint), target="cpu", calibration=str(path), output=tmp_path / "bundle")
    assert [entry.name for entry in tmp_path.iterdir()] == ["few.jsonl"]
    assert not calibration_directory(tmp_path / "bundle").exists()


def test_groups_that_do_not_fill_a_linear_are_refused_before_anything_runs(tmp_path, text_examples) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", FakeDims(intermediate_size=80))
    with pytest.raises(ExportError, match="linears with K = 80, which groups of 32 weights do not fill") as refused:
        export(str(checkpoint), target="cpu", calibration=str(text_examples), output=tmp_path / "b", max_context=1024)
    assert "fp16" in str(refused.value.remedy)
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]
