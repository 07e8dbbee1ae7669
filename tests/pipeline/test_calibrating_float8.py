"""Exports at fp8, of the checkpoint with two small layers."""

import json
from pathlib import Path

import pytest

from phiedge.bundle import Bundle
from phiedge.calibration.decoder_layer import linear_name
from phiedge.errors import UsageError
from phiedge.exporters.checkpoints.modelopt import modelopt_quantization, modelopt_tensors
from phiedge.exporters.checkpoints.text_model import has_tensor_scales
from phiedge.pipeline import export
from phiedge.pipeline.report_agreement import check_report
from phiedge.runtime.goldens import check
from phiedge.runtime.session import Session


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "examples.jsonl"
    lines = [{"prompt": f"What is {number * 37}?", "answer": "Nobody knows. " * 8} for number in range(16)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def bundle(tiny_checkpoint, examples, tmp_path_factory) -> Bundle:
    return export(
        str(tiny_checkpoint),
        target="rtx-4090",
        precision="fp8",
        calibration=str(examples),
        output=tmp_path_factory.mktemp("float8") / "bundle",
        max_context=1024,
    )


def read_report(bundle: Bundle) -> dict:
    return json.loads(bundle.file(str(bundle.manifest.quantization)).read_bytes())


def test_a_bundle_at_fp8_has_graphs_for_both_engines_over_one_set_of_weights(bundle) -> None:
    manifest = bundle.manifest
    assert (manifest.precision.name, manifest.precision.decoder, manifest.precision.lm_head) == (
        "fp8",
        "float8",
        "float16",
    )
    assert {name: dialect.activations for name, dialect in manifest.dialects.items()} == {
        "ort": "float32",
        "tensorrt": "float16",
    }
    weights = sum(row["stored_bytes"] for row in read_report(bundle)["tensors"])
    facts = manifest.facts
    head = 2 * facts.vocab_size * facts.hidden_size
    tables = 2 * (4 + 2) * manifest.max_context * facts.head_dim // 2  # of rotations, for either engine
    assert manifest.files["decoder.data"].bytes < 1.1 * (weights + head + tables)


def test_the_report_tells_the_scale_of_every_input_and_what_each_rule_and_method_lost(bundle) -> None:
    told = read_report(bundle)
    assert told["method"] == "calibrated"
    assert told["calibration"]["weight_scales"] == "row"
    layers = told["calibration"]["layers"]
    rows = {linear_name(layer["layer"], row["linear"]): row for layer in layers for row in layer["linears"]}
    assert [tensor["method"] for tensor in told["tensors"]] == [rows[t["name"]]["method"] for t in told["tensors"]]
    for row in rows.values():
        assert set(row["errors"]) == {"rtn", "mse", "gptq"}
        assert set(row["input_scale"]["errors"]) == {"max", "percentile", "mse"}
        assert row["input_scale"]["percentile"] <= 1.01 * row["largest_input"]
    assert told["end_to_end"]["cosine_mean"] > 0.99


def test_it_verifies_and_answers_on_the_cpu(bundle) -> None:
    assert bundle.check_files() == []
    assert check_report(bundle) == []
    assert all(row.ok for row in check(bundle))
    with Session.open(bundle, max_context=512) as session:
        assert session.generate("What is this?", max_new_tokens=4).token_ids


def test_with_scales_for_tensors_every_linear_has_one_and_modelopt_is_plain_fp8(
    bundle, tiny_checkpoint, examples, tmp_path
) -> None:
    by_tensor = export(
        str(tiny_checkpoint),
        target="rtx-4090",
        precision="fp8",
        calibration=str(examples),
        method="rtn",
        weight_scales="tensor",
        output=tmp_path / "bundle",
        max_context=1024,
    )
    assert read_report(by_tensor)["calibration"]["weight_scales"] == "tensor"
    assert "one scale for each tensor" in by_tensor.file("quantization.html").read_text()
    assert check_report(by_tensor) == []
    assert [has_tensor_scales(found) for found in (bundle, by_tensor)] == [False, True]
    flat, nested = modelopt_quantization(by_tensor)
    assert (flat["quant_algo"], nested["quantization"]["kv_cache_quant_algo"]) == ("FP8", "FP8")
    scales = [tensor for tensor in modelopt_tensors(by_tensor) if tensor.name.endswith("_scale")]
    assert {(tensor.dtype, tensor.shape) for tensor in scales} == {("F32", ())}
    assert len(scales) == (2 * 7 + 2) * by_tensor.manifest.facts.num_layers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4", "weight_scales": "tensor"}, "--weight-scales tensor is of 8-bit floats"),
        ({"precision": "fp8", "weight_scales": "column"}, "there are no --weight-scales 'column'"),
    ],
)
def test_scales_that_cannot_be_are_refused_before_anything_is_read(tmp_path, options, message) -> None:
    with pytest.raises(UsageError, match=message):
        export("nowhere", target="rtx-4090", calibration="builtin", output=tmp_path / "bundle", **options)
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_beside_the_bundle(bundle) -> None:
    assert [path.name for path in bundle.path.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    ("options", "message", "remedy"),
    [
        ({"target": "orin"}, r"has no units for fp8 \(SM 8.7\)", "--precision int4, or --target thor-"),
        ({"target": "rtx-3060"}, r"rtx-3060 has no units for fp8 \(SM 8.6\)", "--target"),
        ({"target": "cpu"}, "cpu has no units for fp8", "--precision int4"),
        ({"target": "rtx-4090"}, "--precision fp8 needs data", "--calibration builtin"),
        ({"target": "rtx-4090", "calibration": "builtin", "method": "awq"}, "gains nothing in 8-bit floats", "gptq"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(tmp_path, options, message, remedy) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        export("nowhere", precision="fp8", output=tmp_path / "bundle", **options)
    assert remedy in str(caught.value.remedy)
    assert not list(tmp_path.iterdir())
