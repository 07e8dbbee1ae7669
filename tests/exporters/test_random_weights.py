import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fake_checkpoints import TEMPLATE, FakeDims, fake_config, fake_tokenizer, write_checkpoint
from phiedge.bundle import hash_file
from phiedge.errors import CheckpointError, ConfigError, TensorError, UsageError
from phiedge.exporters.random_weights import RandomWeights, open_random_weights
from phiedge.exporters.source import ModelSource
from phiedge.exporters.tensors import EMBEDDING_TABLE
from published import PUBLISHED_CONFIG, PUBLISHED_PARAMETERS, PUBLISHED_TENSORS


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with config.json alone."""
    path = tmp_path / "small"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(fake_config(FakeDims())), encoding="utf-8")
    return path


@pytest.fixture
def source(directory: Path) -> Iterator[RandomWeights]:
    with open_random_weights(directory, seed=3) as opened:
        yield opened


def put_tokenizer_and_template(directory: Path) -> None:
    (directory / "tokenizer.json").write_text(json.dumps(fake_tokenizer()), encoding="utf-8")
    (directory / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")


def gathered(source: ModelSource, *, block_bytes: int) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {}
    for block in source.blocks(source.names(), block_bytes=block_bytes):
        loaded = block.load()
        assert loaded.shape == block.shape
        assert block.first_row == sum(map(len, parts.get(block.name, [])))
        assert loaded.nbytes <= block_bytes or block.shape[0] == 1
        parts.setdefault(block.name, []).append(loaded)
        block.release()
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def test_it_says_what_it_is(source: RandomWeights, directory: Path) -> None:
    assert (source.source, source.id) == ("random", None)
    assert source.name == "small (random weights)"
    assert source.revision == "seed 3, stand-in tokenizer.json, stand-in chat_template.jinja"
    assert "random (seed 3)" in source.notes[0]
    assert "means nothing" in source.notes[0]
    assert [note.split()[0] for note in source.notes[1:]] == ["tokenizer.json", "chat_template.jinja"]
    entry = source.files()["config.json"]
    assert (entry.sha256, entry.bytes) == (
        hash_file(directory / "config.json"),
        (directory / "config.json").stat().st_size,
    )
    assert source.files() == source.digests()
    assert list(source.files()) == ["config.json"]


def test_blocks_of_any_size_give_the_same_values(source: RandomWeights) -> None:
    whole = gathered(source, block_bytes=1 << 30)
    assert tuple(whole) == source.names()
    for block_bytes in (1, 1000, 4096):
        for name, values in gathered(source, block_bytes=block_bytes).items():
            np.testing.assert_array_equal(values, whole[name])


def test_only_what_is_wanted_is_made(source: RandomWeights) -> None:
    wanted = {"lm_head.weight", "model.norm.weight"}
    assert {block.name for block in source.blocks(wanted, block_bytes=1 << 20)} == wanted


def test_what_is_missing_is_made_and_gone_afterwards(directory: Path) -> None:
    with open_random_weights(directory, seed=0) as source:
        assert source.path != directory
        assert {path.name for path in source.path.iterdir()} == {"config.json", "tokenizer.json", "chat_template.jinja"}
        assert source.config.facts().think_token_id == 262
    assert not source.path.exists()
    assert [path.name for path in directory.iterdir()] == ["config.json"]


def test_what_is_there_is_used_as_it_is(directory: Path) -> None:
    put_tokenizer_and_template(directory)
    with open_random_weights(directory, seed=0) as source:
        assert source.path == directory
        assert source.revision == "seed 0"
        assert len(source.notes) == 1
        assert set(source.files()) == {"config.json", "tokenizer.json", "chat_template.jinja"}
    assert (directory / "tokenizer.json").exists()


def test_a_template_alone_is_kept_beside_a_stand_in_tokenizer(directory: Path) -> None:
    (directory / "chat_template.jinja").write_text(TEMPLATE + "{# mine #}", encoding="utf-8")
    with open_random_weights(directory, seed=0) as source:
        assert (source.path / "chat_template.jinja").read_text(encoding="utf-8").endswith("{# mine #}")
        assert source.revision == "seed 0, stand-in tokenizer.json"


def test_seed_and_files_are_what_a_resumed_export_compares(directory: Path) -> None:
    def fingerprint(seed: int) -> dict[str, str]:
        with open_random_weights(directory, seed=seed) as source:
            return source.fingerprint()

    first = fingerprint(0)
    assert fingerprint(0) == first
    assert fingerprint(1) != first
    put_tokenizer_and_template(directory)
    assert fingerprint(0) != first


def test_a_full_size_directory_is_opened_without_its_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED_CONFIG), encoding="utf-8")
    with open_random_weights(tmp_path, seed=0) as source:
        assert len(source.names()) == PUBLISHED_TENSORS
        elements = 0
        for block in source.blocks(source.names(), block_bytes=8 << 20):
            elements += int(np.prod(block.shape))
            last = block
        assert elements == PUBLISHED_PARAMETERS
        assert last.load().nbytes <= 8 << 20


class TestRefusals:
    def refused(self, model: object, message: str, remedy: str, *, seed: int = 0, error: type = UsageError) -> None:
        with pytest.raises(error, match=message) as caught:
            open_random_weights(str(model), seed=seed)
        assert remedy in str(caught.value.remedy)

    def test_the_reference_model(self) -> None:
        self.refused("reference", "trained weights", "leave --random-weights out")

    def test_a_hub_id(self) -> None:
        self.refused("owner/name@main", "nothing is downloaded", "hf download owner/name config.json")

    def test_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "no", "does not exist", "give the directory")

    def test_a_file(self, directory: Path) -> None:
        self.refused(directory / "config.json", "is a file", "give the directory")

    def test_a_directory_without_a_configuration(self, tmp_path: Path) -> None:
        self.refused(tmp_path, "has no config.json", "put the model's config.json there", error=CheckpointError)

    @pytest.mark.parametrize("seed", [-1, True, 1.5])
    def test_a_seed_that_is_none(self, directory: Path, seed: int) -> None:
        self.refused(directory, "a seed is a whole number", "--seed 0", seed=seed)

    @pytest.mark.parametrize(
        "name", ["model.safetensors", "model-00003-of-00007.safetensors", "pytorch_model.bin", "a.gguf"]
    )
    def test_a_directory_with_weights(self, directory: Path, name: str) -> None:
        (directory / name).touch()
        self.refused(directory, f"has weights \\({name}\\)", "leave --random-weights out")

    def test_a_whole_checkpoint(self, tmp_path: Path) -> None:
        self.refused(write_checkpoint(tmp_path / "real"), "has weights", "leave --random-weights out")

    def test_a_configuration_that_phiedge_does_not_support(self, directory: Path) -> None:
        config = fake_config(FakeDims()) | {"rope_scaling": {"factor": 2}}
        (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
        self.refused(directory, "rope_scaling", "", error=ConfigError)

    @pytest.mark.parametrize(
        "absurd", [{"num_hidden_layers": 10**9}, {"intermediate_size": 10**12}, {"vocab_size": 10**10}]
    )
    @pytest.mark.parametrize("with_tokenizer", [False, True])
    def test_a_configuration_of_absurd_size(
        self, directory: Path, absurd: dict[str, int], *, with_tokenizer: bool
    ) -> None:
        if with_tokenizer:
            put_tokenizer_and_template(directory)
        (directory / "config.json").write_text(json.dumps(fake_config(FakeDims()) | absurd), encoding="utf-8")
        self.refused(directory, "more than 100,000 tensors", "the 15B has 40 layers", error=ConfigError)

    def test_a_tokenizer_of_another_model(self, directory: Path) -> None:
        put_tokenizer_and_template(directory)
        config = fake_config(FakeDims()) | {"vocab_size": 263}
        (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
        self.refused(directory, "wrong tokenizer", "tokenizer.json", error=CheckpointError)

    def test_an_index_of_another_model(self, directory: Path, tmp_path: Path) -> None:
        whole = write_checkpoint(tmp_path / "whole", FakeDims(num_hidden_layers=3), shards=2)
        shutil.copy(whole / "model.safetensors.index.json", directory)
        self.refused(
            directory,
            "model.layers.2.* of model.safetensors.index.json and not of config.json",
            "same",
            error=TensorError,
        )


def test_the_index_of_this_model_is_welcome(directory: Path, tmp_path: Path) -> None:
    whole = write_checkpoint(tmp_path / "whole", shards=2)
    shutil.copy(whole / "model.safetensors.index.json", directory)
    with open_random_weights(directory, seed=0) as source:
        assert "model.safetensors.index.json" in source.files()
        assert source.shape(EMBEDDING_TABLE) == (272, 64)
        assert source.dtype(EMBEDDING_TABLE) == "bfloat16"
