import json
from dataclasses import replace
from pathlib import Path

import pytest

from edge_exporter import RECORDED
from phiedge.bundle import Bundle, ModelFacts
from phiedge.engines.edge_llm.device_files import (
    device_commands,
    patch_language_config,
    sections,
    write_visual_configs,
)
from phiedge.errors import ToolOutputError


@pytest.fixture(scope="session")
def facts(exported_bundle: Path) -> ModelFacts:
    return Bundle.open(exported_bundle).manifest.facts


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_bytes((RECORDED / "config.json").read_bytes())
    return path


def test_pictures_get_their_token_and_three_counters_that_are_one(config: Path, facts: ModelFacts) -> None:
    patch_language_config(config, facts, image_token_id=759)
    found = json.loads(config.read_bytes())
    assert found["image_token_id"] == 759
    assert found["rope_scaling"]["mrope_section"] == [16, 0, 0]
    assert found["edgellm_version"] == "0.11.0"


@pytest.mark.parametrize(
    ("key", "value"),
    [("edgellm_version", "0.10.1"), ("vocab_size", 100), ("kv_cache_dtype", "fp8"), ("rope_theta", 10000.0)],
)
def test_a_configuration_of_another_model_is_refused(config: Path, facts: ModelFacts, key: str, value: object) -> None:
    config.write_text(json.dumps(json.loads(config.read_bytes()) | {key: value}))
    with pytest.raises(ToolOutputError, match=f"{key} is {value!r}, the model has"):
        patch_language_config(config, facts, image_token_id=759)


def test_an_answer_that_would_not_end_is_refused(config: Path, facts: ModelFacts) -> None:
    config.write_text(json.dumps(json.loads(config.read_bytes()) | {"eos_token_id": [1]}))
    with pytest.raises(ToolOutputError, match="answers end at"):
        patch_language_config(config, facts, image_token_id=759)


@pytest.mark.parametrize(("head_dim", "expected"), [(128, [32, 16, 16]), (64, [16, 8, 8]), (32, [16, 0, 0])])
def test_the_counters_share_all_pairs_of_a_head_in_eights(
    facts: ModelFacts, head_dim: int, expected: list[int]
) -> None:
    found = sections(replace(facts, head_dim=head_dim))
    assert found == expected
    assert sum(found) == head_dim // 2


def test_the_vision_graph_goes_by_the_name_of_the_only_runner_with_its_encoder(
    tmp_path: Path, facts: ModelFacts
) -> None:
    write_visual_configs(tmp_path, facts, image_token_id=759)
    config = json.loads((tmp_path / "config.json").read_bytes())
    assert config["model_type"] == config["vision_config"]["model_type"] == "cosmos3_edge_vision"
    assert config["vision_config"]["num_patches"] == 256
    assert {config[f"{name}_token_id"] for name in ("video", "vision_start", "vision_end")} == {-1}
    preprocessor = json.loads((tmp_path / "preprocessor_config.json").read_bytes())
    assert preprocessor == {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "merge_size": 1, "patch_size": 16}


def test_the_vision_builder_counts_four_patches_to_a_token(facts: ModelFacts) -> None:
    language, visual = device_commands(facts, pictures=2, context=4096)
    assert "--maxKVCacheCapacity 4096" in language
    assert "--maxImageTokens 128 --maxImageTokensPerImage 64" in visual
