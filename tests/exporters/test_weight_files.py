import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fake_checkpoints import write_checkpoint
from phiedge.errors import CheckpointError, TensorError
from phiedge.exporters.tensors import POSITION_TABLE
from phiedge.exporters.weight_files import INDEX_FILE, SINGLE_FILE, open_weights

SECOND = "model-00002-of-00003.safetensors"


@pytest.fixture
def single(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "single")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "sharded", shards=3)


def change_index(directory: Path, change: Callable[[dict[str, str]], object]) -> None:
    index = json.loads((directory / INDEX_FILE).read_text())
    change(index["weight_map"])
    (directory / INDEX_FILE).write_text(json.dumps(index))


def names_of(directory: Path) -> set[str]:
    files = open_weights(directory)
    for file in files:
        file.close()
    return {name for file in files for name in file.tensors}


def test_one_file_and_shards_hold_the_same_tensors(single: Path, sharded: Path) -> None:
    assert names_of(single) == names_of(sharded)


def test_a_shard_that_is_missing_is_named(sharded: Path) -> None:
    (sharded / SECOND).unlink()
    with pytest.raises(CheckpointError, match=f"{INDEX_FILE} names the shard {SECOND}, which is missing"):
        open_weights(sharded)


def test_a_shard_that_is_cut_short_is_named(sharded: Path) -> None:
    (sharded / SECOND).write_bytes((sharded / SECOND).read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=f"{SECOND} is cut short"):
        open_weights(sharded)


def test_a_tensor_that_the_index_puts_into_the_wrong_shard_is_named(sharded: Path) -> None:
    change_index(sharded, lambda weights: weights.update({POSITION_TABLE: SECOND}))
    with pytest.raises(TensorError) as caught:
        open_weights(sharded)
    assert caught.value.message.endswith(f"holds {POSITION_TABLE}, but {INDEX_FILE} puts it into {SECOND}")
    assert caught.value.tensor == POSITION_TABLE


def test_a_tensor_that_the_index_does_not_list_is_named(sharded: Path) -> None:
    change_index(sharded, lambda weights: weights.pop("model.norm.weight"))
    with pytest.raises(TensorError, match=r"holds model\.norm\.weight, but .* does not list it"):
        open_weights(sharded)


def test_a_tensor_that_no_shard_holds_is_named(sharded: Path) -> None:
    change_index(sharded, lambda weights: weights.update({"model.extra.weight": SECOND}))
    with pytest.raises(TensorError, match=rf"puts model\.extra\.weight into {SECOND}, which lacks it"):
        open_weights(sharded)


def test_a_tensor_in_two_shards_is_named(sharded: Path) -> None:
    shutil.copy(sharded / SECOND, sharded / "model-00004-of-00003.safetensors")
    change_index(sharded, lambda weights: weights.update({"model.extra": "model-00004-of-00003.safetensors"}))
    with pytest.raises(TensorError, match="holds .*, but .* puts it into"):
        open_weights(sharded)


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/tmp/x.safetensors", "a\\b.safetensors", "pytorch_model.bin", 3]
)
def test_an_index_that_points_elsewhere_is_refused(sharded: Path, name: str) -> None:
    change_index(sharded, lambda weights: weights.update({"lm_head.weight": name}))
    with pytest.raises(CheckpointError, match=r"puts lm_head\.weight into .*not a safetensors file of the directory"):
        open_weights(sharded)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": {}}', '{"weight_map": []}'])
def test_an_index_without_a_map_is_refused(sharded: Path, index: str) -> None:
    (sharded / INDEX_FILE).write_text(index)
    with pytest.raises(CheckpointError, match="has no weight_map"):
        open_weights(sharded)


def test_a_single_file_beside_an_index_is_refused(single: Path, sharded: Path) -> None:
    shutil.copy(single / SINGLE_FILE, sharded)
    with pytest.raises(CheckpointError, match="which may be two different models"):
        open_weights(sharded)


def test_shards_without_their_index_are_refused(sharded: Path) -> None:
    (sharded / INDEX_FILE).unlink()
    with pytest.raises(CheckpointError, match=rf"has model-00001-of-00003\.safetensors but no {INDEX_FILE}"):
        open_weights(sharded)


def test_an_adapter_beside_the_weights_is_not_left_out_silently(single: Path) -> None:
    shutil.copy(single / SINGLE_FILE, single / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors belongs to no index"):
        open_weights(single)


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "model.pt", "model.pth", "last.ckpt", "weights.pkl"])
def test_weights_as_pickles_are_refused_unread(single: Path, pickle: str) -> None:
    (single / SINGLE_FILE).rename(single / pickle)
    with pytest.raises(CheckpointError, match=f"weights as pickles .{pickle}., which can run code and are not read"):
        open_weights(single)


def test_a_directory_without_weights_says_what_it_looked_for(single: Path) -> None:
    (single / SINGLE_FILE).unlink()
    with pytest.raises(CheckpointError, match=f"has no weights: neither {SINGLE_FILE} nor {INDEX_FILE}"):
        open_weights(single)
