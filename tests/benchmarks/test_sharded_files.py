"""The generator of sharded checkpoints: the published shards, and the values of an export with random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors

from benchmarks.random_checkpoint import DecoderShape, write, write_published
from benchmarks.sharded_files import plan_shards, state_dict_order
from phiedge.exporters.checkpoint import open_checkpoint
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.random_weights import open_random_weights
from published import PUBLISHED_CONFIG, PUBLISHED_PARAMETERS, PUBLISHED_SHARDS_GB, PUBLISHED_TENSORS

PUBLISHED = ModelConfig.from_json(PUBLISHED_CONFIG)
SHARD_BYTES = 150_000
SMALL = PUBLISHED_CONFIG | {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "vocab_size": 300,
    "bos_token_id": 280,
    "eos_token_id": 285,
    "pad_token_id": 295,
    "mm_hidden_size": 48,
    "vision_config": {
        "hidden_size": 48,
        "intermediate_size": 80,
        "model_type": "siglip2_vision_model",
        "num_attention_heads": 3,
        "num_hidden_layers": 3,
    },
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("written") / "model"
    write_published(path, SMALL, seed=11, shard_bytes=SHARD_BYTES)
    return path


def test_the_15b_has_the_published_shards() -> None:
    shards = plan_shards(PUBLISHED)
    assert len(shards) == len(PUBLISHED_SHARDS_GB)
    for shard, published_gb in zip(shards, PUBLISHED_SHARDS_GB, strict=True):
        assert shard.tensors_bytes / 1e9 == pytest.approx(published_gb, rel=0.01)
    assert shards[-1].names == ("lm_head.weight",)
    assert sum(len(shard.names) for shard in shards) == PUBLISHED_TENSORS
    assert sum(shard.tensors_bytes for shard in shards) == 2 * PUBLISHED_PARAMETERS
    vision = {name for name in PUBLISHED.tensors() if ".vision_tower." in name or ".mm_projector." in name}
    assert vision < set(shards[5].names)
    assert sorted(state_dict_order(PUBLISHED)) == sorted(PUBLISHED.tensors())


def test_the_formats_own_library_reads_the_shards(directory: Path) -> None:
    index = json.loads((directory / "model.safetensors.index.json").read_text(encoding="utf-8"))
    held = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safetensors.safe_open(path, framework="pt") as file:
            held |= dict.fromkeys(file.keys(), path.name)
    assert held == index["weight_map"]
    assert index["metadata"]["total_size"] == 2 * sum(
        spec.parameters for spec in ModelConfig.from_dir(directory).tensors().values()
    )


def test_the_directory_is_a_checkpoint_with_more_than_one_shard(directory: Path) -> None:
    with open_checkpoint(directory) as checkpoint:
        checkpoint.check()
        assert set(checkpoint.names()) == set(checkpoint.config.tensors())
    assert len(list(directory.glob("*.safetensors"))) > 2


def test_the_directory_holds_the_values_that_are_made_on_the_way(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL), encoding="utf-8")
    with open_checkpoint(directory) as checkpoint, open_random_weights(tmp_path, seed=11) as random:
        stored = {
            (block.name, block.first_row): np.array(block.load())
            for block in checkpoint.blocks(checkpoint.names(), block_bytes=5000)
        }
        made = {
            (block.name, block.first_row): block.load() for block in random.blocks(random.names(), block_bytes=5000)
        }
    assert {name for name, _ in stored} == {name for name, _ in made}
    for name in dict(stored):
        np.testing.assert_array_equal(stored[name], made[name])


def test_the_twin_for_another_builder_shares_the_weight_file(tmp_path: Path) -> None:
    shape = DecoderShape(hidden=64, layers=2, heads=4, kv_heads=2, intermediate=96, vocab=512)
    written = write(tmp_path, shape)
    assert write(tmp_path, shape) == written
    text = written.checkpoint / "model-decoder.safetensors"
    assert text.samefile(written.phi3 / "model.safetensors")
    with open_checkpoint(written.checkpoint) as checkpoint:
        checkpoint.check()
    with safetensors.safe_open(written.phi3 / "model.safetensors", framework="pt") as file:
        names = list(file.keys())
        assert sum(np.prod(file.get_slice(name).get_shape()) for name in names) == written.decoder_parameters
