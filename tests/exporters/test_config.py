import dataclasses
import json
from pathlib import Path

import pytest

from fake_checkpoints import FakeDims, fake_config, fake_tokenizer, write_checkpoint
from phiedge.bundle import ModelFacts
from phiedge.errors import CheckpointError, ConfigError
from phiedge.exporters.config import ModelConfig
from published import PUBLISHED_CONFIG

ORACLE = Path(__file__).parents[1] / "oracle" / "tiny"


def changed(**values: object) -> ModelConfig:
    return ModelConfig.from_json(fake_config(FakeDims()) | values)


def test_the_published_configuration_is_read() -> None:
    config = ModelConfig.from_json(PUBLISHED_CONFIG)
    assert (config.hidden_size, config.num_layers, config.num_heads, config.num_kv_heads) == (5120, 40, 40, 10)
    assert (config.head_dim, config.intermediate_size, config.vocab_size) == (128, 17920, 100352)
    assert (config.rms_norm_eps, config.rope_theta) == (1e-5, 500000.0)
    assert (config.max_position_embeddings, config.publisher_max_length) == (32768, 8192)
    assert (config.vision_layers, config.vision_layers_used, config.position_grid) == (27, 26, 16)
    assert (config.tokens.bos, config.tokens.eos, config.tokens.pad) == (100257, (100265,), 100349)


def test_the_published_configuration_without_its_vision_section_is_the_same_model() -> None:
    bare = {key: value for key, value in PUBLISHED_CONFIG.items() if key != "vision_config"}
    assert ModelConfig.from_json(bare) == ModelConfig.from_json(PUBLISHED_CONFIG)


def test_the_oracles_directory_gives_its_facts() -> None:
    facts = ModelConfig.from_dir(ORACLE).facts()
    assert isinstance(facts, ModelFacts)
    assert (facts.num_layers, facts.head_dim, facts.vision_layers_used, facts.patch_size) == (3, 16, 2, 16)
    assert (facts.bos_token_id, facts.eos_token_ids, facts.pad_token_id) == (501, (503,), 506)
    assert (facts.nothink_token_id, facts.think_token_id, facts.end_think_token_id) == (505, 507, 508)
    assert (facts.generation.do_sample, facts.generation.temperature, facts.generation.top_p) == (True, 0.8, 0.95)


def test_every_fact_of_a_bundle_comes_from_a_field_of_the_same_name_or_from_the_tokenizer() -> None:
    config = ModelConfig.from_dir(ORACLE)
    facts = config.facts()
    from_elsewhere = {name for name in (f.name for f in dataclasses.fields(facts)) if not hasattr(config, name)}
    assert from_elsewhere == {
        "bos_token_id",
        "eos_token_ids",
        "pad_token_id",
        "think_token_id",
        "end_think_token_id",
        "nothink_token_id",
    }
    shared = {f.name for f in dataclasses.fields(facts)} - from_elsewhere
    assert all(getattr(facts, name) == getattr(config, name) for name in shared)


def test_a_configuration_read_on_its_own_has_no_facts_for_a_bundle() -> None:
    with pytest.raises(ConfigError, match="has no tokenizer"):
        ModelConfig.from_json(PUBLISHED_CONFIG).facts()


@pytest.mark.parametrize("found", ["llama", "phi3", "phi4mm", "Phi4-Siglip"])
def test_another_model_type_is_refused_by_name(found: str) -> None:
    with pytest.raises(ConfigError, match=f"model_type is '{found}', phiedge exports 'phi4-siglip'"):
        changed(model_type=found, some_key_of_that_model=1)


def test_a_configuration_without_a_model_type_is_refused() -> None:
    with pytest.raises(ConfigError, match="'model_type' is missing"):
        ModelConfig.from_json({})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architectures", ["Phi3ForCausalLM"]),
        ("attention_bias", True),
        ("dtype", "float8_e4m3fn"),
        ("hidden_act", "gelu"),
        ("mm_projector_type", "linear"),
        ("partial_rotary_factor", 0.5),
        ("quantization_config", {"bits": 4}),
        ("rope_scaling", {"type": "longrope"}),
        ("sliding_window", 2047),
        ("tie_word_embeddings", True),
        ("use_mm_proj", False),
        ("use_s2", True),
    ],
)
def test_a_value_that_the_architecture_does_not_support_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"config.json: '{key}' is ") as caught:
        changed(**{key: value})
    assert "phiedge supports" in caught.value.message
    assert caught.value.remedy is not None


def test_an_unknown_key_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"does not know: 'num_hidden_layer'; did you mean 'num_hidden_layers'\?"):
        changed(num_hidden_layer=2)


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "rope_theta", "rms_norm_eps", "vocab_size"])
def test_a_missing_size_is_never_a_default(key: str) -> None:
    config = {name: value for name, value in PUBLISHED_CONFIG.items() if name != key}
    with pytest.raises(ConfigError, match=f"'{key}' is missing"):
        ModelConfig.from_json(config)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_attention_heads": 7}, "hidden_size 64 is not a multiple of num_attention_heads 7"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
        ({"hidden_size": 60}, "rotary positions need an even head size, this one is 15"),
        ({"min_num_patches": 4000}, "min_num_patches 4000 is above max_num_patches 3600"),
        ({"pad_token_id": 272}, "pad_token_id 272 is outside the vocabulary of 272 tokens"),
        ({"eos_token_id": [258, 999]}, "eos_token_id 999 is outside the vocabulary"),
    ],
)
def test_sizes_that_do_not_hold_together_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        changed(**values)


def test_a_tower_of_one_block_has_nothing_to_use() -> None:
    with pytest.raises(ConfigError, match="one vision block is too few"):
        ModelConfig.from_json(fake_config(FakeDims(vision_num_hidden_layers=1)))


def test_rope_parameters_as_transformers_5_writes_them_mean_the_same() -> None:
    config = {key: value for key, value in PUBLISHED_CONFIG.items() if key not in ("rope_theta", "rope_scaling")}
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 500000, "partial_rotary_factor": 1.0}
    assert ModelConfig.from_json(config) == ModelConfig.from_json(PUBLISHED_CONFIG)


@pytest.mark.parametrize(
    "parameters",
    [{"rope_type": "longrope", "rope_theta": 1e4}, {"rope_type": "default", "rope_theta": 1e4, "factor": 2}],
)
def test_rope_parameters_that_scale_are_refused(parameters: dict[str, object]) -> None:
    config = {key: value for key, value in PUBLISHED_CONFIG.items() if key != "rope_theta"}
    with pytest.raises(ConfigError, match="rope_parameters"):
        ModelConfig.from_json(config | {"rope_parameters": parameters})


def test_two_rope_bases_that_disagree_are_refused() -> None:
    with pytest.raises(ConfigError, match="'rope_theta' is 500000"):
        changed(rope_parameters={"rope_type": "default", "rope_theta": 10000})


def test_a_tokenizer_larger_than_the_vocabulary_is_refused() -> None:
    with pytest.raises(
        CheckpointError, match="wrong tokenizer: its highest id is 263, the model's vocabulary has 263 rows"
    ):
        ModelConfig.from_json(fake_config(FakeDims(vocab_size=263)), tokenizer=fake_tokenizer())


@pytest.mark.parametrize("name", ["bos", "eos", "pad"])
def test_a_tokenizer_whose_ids_contradict_the_configuration_is_refused(name: str) -> None:
    config = fake_config(FakeDims()) | {f"{name}_token_id": 5}
    with pytest.raises(CheckpointError, match=rf"wrong tokenizer: its {name} token has the id \d+, config.json says 5"):
        ModelConfig.from_json(config, tokenizer=fake_tokenizer())


def test_a_directory_whose_preprocessor_contradicts_is_refused(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "model")
    (model / "preprocessor_config.json").write_text(json.dumps({"max_num_patches": 1024}))
    with pytest.raises(ConfigError, match=r"preprocessor_config\.json: 'max_num_patches' is 1024"):
        ModelConfig.from_dir(model)
