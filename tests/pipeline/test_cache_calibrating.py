"""Exports with a cache in int8, of the checkpoint with two small layers."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from phiedge.bundle import Bundle
from phiedge.devices import find
from phiedge.errors import ExportError, InputError, UsageError
from phiedge.exporters.checkpoint import open_checkpoint
from phiedge.exporters.precision import FP16, INT4
from phiedge.pipeline import export
from phiedge.pipeline.cache_calibrating import check_kv_cache, scales_directory, scales_for_export
from phiedge.pipeline.contents import dialects_for
from phiedge.pipeline.report_page import report_page
from phiedge.runtime.session import Session


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "examples.jsonl"
    lines = [{"prompt": f"What is {number}?", "answer": "Nobody knows. " * 10} for number in range(10)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def exported(tiny_checkpoint, examples, tmp_path_factory) -> Bundle:
    output = tmp_path_factory.mktemp("int8-cache") / "bundle"
    data = str(examples)
    return export(
        str(tiny_checkpoint), target="cpu", precision="fp32", calibration=data, kv_cache="int8", output=output
    )


def read_report(bundle: Bundle) -> dict:
    return json.loads(bundle.file(str(bundle.manifest.quantization)).read_bytes())


def test_manifest_report_and_graph_tell_of_the_same_cache(exported: Bundle) -> None:
    told = read_report(exported)
    assert exported.manifest.precision.cache == "int8"
    assert told["kv_cache"]["stored_as"] == "int8"
    assert (told["kv_cache"]["data"], told["kv_cache"]["samples"]) == ("examples.jsonl", 8)
    assert told["calibration"] is None
    assert told["end_to_end"]["cosine_mean"] > 0.999, "beside fp32 with a float cache"
    assert exported.check_files() == []


def test_scales_of_channels_lose_no_more_than_one_scale(exported: Bundle) -> None:
    for layer in read_report(exported)["kv_cache"]["layers"]:
        for side in ("key", "value"):
            assert layer[side]["int8"]["channel_error"] < layer[side]["int8"]["errors"]["max"]


def test_the_page_of_the_report_has_a_row_for_keys_and_values_of_each_layer(exported: Bundle) -> None:
    page = report_page(read_report(exported), model="tiny", target="cpu")
    assert "They are kept as int8. Scales for either format were found on 8 examples (examples.jsonl" in page
    layers = exported.manifest.facts.num_layers
    for side in ("keys", "values"):
        assert page.count(f"<td>{side}</td>") == layers


def test_a_session_opens_it_and_goes_back_to_what_was_committed(exported: Bundle) -> None:
    with Session.open(exported, max_context=512, threads=1) as session:
        first = session.forced_logits("What is 5?", (5, 6, 7))
        session.forced_logits("Something quite different?", (9, 9, 9, 9))
        assert np.array_equal(session.forced_logits("What is 5?", (5, 6, 7)), first)


def test_the_directory_of_the_scales_is_gone(exported: Bundle) -> None:
    assert not scales_directory(exported.path).exists()
    assert [path.name for path in exported.path.parent.iterdir()] == ["bundle"]


def test_too_few_examples_leave_nothing(tiny_checkpoint, tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("".join(json.dumps({"prompt": f"What is {n}?"}) + "\n" for n in range(8)))
    with pytest.raises(InputError, match="are too few"):
        export(
            str(tiny_checkpoint),
            target="cpu",
            calibration=str(few),
            kv_cache="int8",
            precision="fp32",
            output=tmp_path / "bundle",
        )
    assert [entry.name for entry in tmp_path.iterdir()] == ["few.jsonl"]


def test_too_little_room_beside_the_bundle_is_told_with_both_numbers(
    tiny_checkpoint, examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))
    with pytest.raises(ExportError, match=r"finding the scales of a cache needs \d+ MB beside .* has 0 MB free"):
        with open_checkpoint(str(tiny_checkpoint)) as source:
            scales_for_export(source, str(examples), tmp_path / "s", compute=torch.float32, max_context=1024)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "kv_cache", "message", "remedy"),
    [
        ("cpu", "int4", "there is no cache 'int4'", "--kv-cache float or int8"),
        ("cpu", "", "there is no cache ''", "--kv-cache float or int8"),
        ("orin", "int8", "engine of agx-orin-64 is TensorRT, whose cache is float16", "leave --kv-cache out"),
        ("thor", "int8", "is TensorRT, whose cache is float16", "leave --kv-cache out"),
    ],
)
def test_a_cache_that_does_not_exist_is_refused_before_anything_is_read(
    tmp_path: Path, target: str, kv_cache: str, message: str, remedy: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        export("nowhere", target=target, kv_cache=kv_cache, output=tmp_path / "bundle")
    assert remedy in str(caught.value.remedy)
    assert list(tmp_path.iterdir()) == []


def test_a_method_for_weights_that_are_not_quantised_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--method awq chooses small integers, and --precision fp16 has none"):
        export(
            "nowhere",
            target="cpu",
            precision="fp16",
            calibration="builtin",
            method="awq",
            kv_cache="int8",
            output=tmp_path / "bundle",
        )


def test_a_gpu_gets_the_dialect_that_has_such_a_cache_and_no_other() -> None:
    device = find("rtx-4090")
    assert check_kv_cache("int8", device) == "int8"
    for plan in (FP16, replace(INT4, group_size=128)):
        assert "tensorrt" in dialects_for(device, replace(plan, activations="float16"))
        assert dialects_for(device, replace(plan, activations="float16", cache="int8")) == ("ort",)
