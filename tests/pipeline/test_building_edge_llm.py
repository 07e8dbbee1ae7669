"""`phiedge build --backend edge-llm`, whole: a stand-in for NVIDIA's exporter fills a graph which that one wrote."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from command_lines import assert_refused
from edge_exporter import StandIn, make_stand_in
from phiedge.bundle import Bundle
from phiedge.engines.edge_llm.built import check_buildable
from phiedge.engines.edge_llm.tool import ExporterChoice
from phiedge.engines.engine_record import find_engine
from phiedge.errors import BundleError, DeviceError, ToolError, ToolOutputError, UsageError
from phiedge.pipeline import build
from phiedge.pipeline.edge_llm.language_check import check_language, our_logits
from phiedge.pipeline.edge_llm.vision_check import check_vision
from phiedge.pipeline.inspection.usability import obstacles


def copied(bundle: Path, to: Path) -> Path:
    """A bundle of its own: the ONNX library refuses weights that have another name somewhere."""
    return Path(shutil.copytree(bundle, to))


@pytest.fixture
def bundle(exported_bundle: Path, tmp_path: Path) -> Path:
    return copied(exported_bundle, tmp_path / "bundle")


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[[str], StandIn]:
    return lambda behaviour: make_stand_in(tmp_path / "environment", behaviour=behaviour)


@pytest.fixture(scope="module")
def built(exported_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with what was built for Edge-LLM."""
    home = tmp_path_factory.mktemp("built")
    bundle = copied(exported_bundle, home / "bundle")
    python = make_stand_in(home / "environment").python
    (engine,) = build(bundle, backend="edge-llm", exporter=ExporterChoice(python=python))
    assert engine.name == "edge-llm"
    return bundle


def names(bundle: Path) -> list[str]:
    return sorted(path.name for path in (bundle / "engines").iterdir())


def test_a_build_is_whole_and_says_what_it_was_held_to(built: Path) -> None:
    engine = find_engine(Bundle.open(built), "edge-llm")
    assert engine is not None
    assert engine.check_files() == []
    assert {name.rpartition("/")[0] for name in engine.record.files} == {"", "llm", "visual"}
    assert engine.record.tools["tensorrt-edgellm"] == "0.11.0"
    assert engine.record.options["weights compared"] == "67"
    assert float(engine.record.options["cosine of logits"]) >= 0.99999
    assert float(engine.record.options["distance of features"]) <= 1e-3
    assert engine.record.options["run on a device"] == "never"


def test_its_two_configurations_agree_on_the_token_of_a_picture(built: Path) -> None:
    path = built / "engines" / "edge-llm"
    llm, visual = (json.loads((path / part / "config.json").read_bytes()) for part in ("llm", "visual"))
    tokenizer = json.loads((path / "llm" / "tokenizer.json").read_bytes())
    (token,) = (entry["id"] for entry in tokenizer["added_tokens"] if entry["content"] == "<image>")
    assert llm["image_token_id"] == visual["image_token_id"] == token


def test_the_commands_for_the_device_are_told(built: Path) -> None:
    checks = json.loads((built / "engines" / "edge-llm" / "checks.json").read_bytes())
    assert [command.split()[0] for command in checks["commands"]] == ["llm_build", "visual_build"]


def test_inspection_says_that_it_is_for_a_device(built: Path) -> None:
    bundle = Bundle.open(built)
    engine = find_engine(bundle, "edge-llm")
    assert engine is not None
    (obstacle,) = obstacles(engine, bundle)
    assert "builds engines from on a Jetson; phiedge does not run it" in obstacle.message
    assert obstacle.remedy is not None


def test_a_scale_of_attention_that_is_not_the_models_is_found_in_the_numbers(built: Path, tmp_path: Path) -> None:
    bundle, engine = Bundle.open(built), built / "engines" / "edge-llm"
    changed = Path(shutil.copytree(engine / "llm", tmp_path / "llm")) / "model.onnx"
    model = onnx.load(changed, load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "attention_scale":
                attribute.f *= 1.1
    onnx.save(model, changed)
    with pytest.raises(ToolOutputError, match="the logits of 'text' have a cosine of 0.9"):
        check_language(bundle, changed, engine / "visual" / "model.onnx", our_logits(bundle)[:1])


def test_a_vision_graph_whose_pictures_see_each_other_is_found_in_the_numbers(built: Path, tmp_path: Path) -> None:
    bundle, engine = Bundle.open(built), built / "engines" / "edge-llm"
    changed = Path(shutil.copytree(engine / "visual", tmp_path / "visual")) / "model.onnx"
    model = onnx.load(changed, load_external_data=False)
    bounds = next(one for one in model.graph.input if one.name == "cu_seqlens").name
    ends = onnx.helper.make_node("Gather", [bounds, "first_and_last"], ["whole"])
    model.graph.node.insert(0, ends)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, -1]), "first_and_last"))
    for node in model.graph.node:
        if node.op_type == "ViTAttentionPlugin":
            node.input[3] = "whole"
    onnx.save(model, changed)
    with pytest.raises(ToolOutputError, match="features of 16 x 16 patches are"):
        check_vision(bundle, changed)


@pytest.mark.parametrize(
    ("behaviour", "kind", "told"),
    [
        ("corrupts a weight", ToolOutputError, "values that are not the bundle's"),
        ("is of another model", ToolOutputError, "hidden_size is 512, the model has 256"),
        ("writes nothing", ToolOutputError, "wrote no llm/model.onnx"),
        ("is killed", ToolError, "ended by SIGKILL"),
    ],
)
def test_a_build_that_failed_leaves_nothing(
    behaviour: str, kind: type[ToolError], told: str, bundle: Path, stand_in: Callable[[str], StandIn]
) -> None:
    with pytest.raises(kind, match=told):
        build(bundle, backend="edge-llm", exporter=ExporterChoice(python=stand_in(behaviour).python))
    assert names(bundle) == []


def test_a_disk_that_is_full_and_memory_that_is_short_are_told_before_the_exporter_runs(
    bundle: Path, stand_in: Callable[[str], StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stand_in("works")
    choice = ExporterChoice(python=made.python)
    with monkeypatch.context() as patch:
        patch.setattr("phiedge.pipeline.building_edge_llm.written_bytes", lambda facts, vision_bytes: 10**18)
        with pytest.raises(BundleError, match="needs 1000000000.0 GB"):
            build(bundle, backend="edge-llm", exporter=choice)
    with monkeypatch.context() as patch:
        patch.setattr("phiedge.engines.edge_llm.memory_need.LIBRARIES_BYTES", 10**18)
        with pytest.raises(DeviceError, match="of memory, the machine leaves"):
            build(bundle, backend="edge-llm", exporter=choice)
    assert not (made.scripts / "started").exists()


def test_a_bundle_that_it_cannot_take_is_refused(plain_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="Edge-LLM on Orin takes int4 in groups of 128"):
        build(plain_bundle.path, backend="edge-llm")


def test_a_bundle_with_a_cache_in_integers_is_refused(exported_bundle: Path) -> None:
    bundle = Bundle.open(exported_bundle)
    manifest = replace(bundle.manifest, precision=replace(bundle.manifest.precision, cache="int8"))
    with pytest.raises(BundleError, match="keeps keys and values in int8; Edge-LLM on Orin keeps float16"):
        check_buildable(Bundle(path=bundle.path, manifest=manifest))


def test_options_that_it_would_have_to_ignore_are_refused(bundle: Path) -> None:
    with pytest.raises(UsageError, match="--backend edge-llm takes no sms"):
        build(bundle, backend="edge-llm", sms=[86])
    with pytest.raises(UsageError, match="--backend onnxruntime needs no exporter"):
        build(bundle, exporter=ExporterChoice())


def test_without_an_exporter_the_command_refuses(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = assert_refused(capsys, "build", bundle, "--backend", "edge-llm", "--tools-dir", tmp_path / "tools")
    assert "tensorrt-edgellm[export]==0.11.0 is not installed in" in refused
