import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import safetensors

from fake_checkpoints import Dtype, random_tensors, stored_bits, write_checkpoint
from phiedge.errors import CheckpointError, ConfigError, TensorError
from phiedge.exporters import checkpoint as checkpoint_module
from phiedge.exporters.checkpoint import open_checkpoint
from phiedge.exporters.config import ModelConfig
from published import PUBLISHED_CONFIG

ORACLE = Path(__file__).parents[1] / "oracle" / "tiny"
GATE_UP = "model.layers.0.mlp.gate_up_proj.weight"


class Recorded:
    """A `Progress` that adds up what it is told."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, int, str]] = []
        self.done = 0

    @contextmanager
    def task(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        self.tasks.append((name, total, unit))
        yield self._advance

    def _advance(self, count: int) -> None:
        self.done += count


def test_the_oracle_is_read_as_the_formats_own_library_reads_it() -> None:
    with open_checkpoint(ORACLE) as oracle:
        oracle.check()
        oracle.check_values()
        for shard in sorted(ORACLE.glob("*.safetensors")):
            with safetensors.safe_open(str(shard), framework="numpy") as theirs:
                for name in theirs.keys():  # noqa: SIM118 - it is no mapping
                    np.testing.assert_array_equal(oracle.float32(name), theirs.get_tensor(name))
        assert (oracle.source, oracle.id, oracle.revision) == ("directory", None, None)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_checkpoint_is_read_in_every_type_and_layout(tmp_path: Path, dtype: Dtype, shards: int) -> None:
    with open_checkpoint(write_checkpoint(tmp_path / "model", dtype=dtype, shards=shards, seed=3)) as model:
        model.check()
        model.check_values()
        for name, written in random_tensors(model.config, seed=3).items():
            stored = stored_bits(written, dtype)
            assert model.dtype(name) == dtype
            assert model.shape(name) == written.shape
            np.testing.assert_array_equal(model.tensor(name), stored)
            exact = (stored.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else stored
            values = model.float32(name)
            assert values.dtype == np.float32
            np.testing.assert_array_equal(values, exact.astype(np.float32))


def test_rows_of_a_tensor_are_the_tensors_rows(tmp_path: Path) -> None:
    with open_checkpoint(write_checkpoint(tmp_path / "model")) as model:
        np.testing.assert_array_equal(model.float32(GATE_UP, slice(5, 90)), model.float32(GATE_UP)[5:90])
        np.testing.assert_array_equal(model.tensor(GATE_UP, slice(5, 90)), model.tensor(GATE_UP)[5:90])


def test_float32_may_be_written_to(tmp_path: Path) -> None:
    with open_checkpoint(write_checkpoint(tmp_path / "model", dtype="float32")) as model:
        model.float32("model.norm.weight")[:] = 0
        assert model.float32("model.norm.weight").any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_weight_that_is_not_finite_is_named_with_its_index(tmp_path: Path, dtype: Dtype, value: float) -> None:
    broken = np.zeros((192, 64), np.float32)
    broken[41, 7] = broken[41, 9] = broken[100, 0] = value
    path = write_checkpoint(tmp_path / "model", dtype=dtype, replace={GATE_UP: broken})
    with open_checkpoint(path) as model:
        for read in (
            lambda: model.float32(GATE_UP),
            lambda: model.float32(GATE_UP, slice(41, 50)),
            lambda: model.check_values(),
        ):
            with pytest.raises(TensorError) as caught:
                read()
            assert caught.value.message == f"{GATE_UP}[41, 7] is {value}, weights must be finite"
            assert caught.value.tensor == GATE_UP
        assert not model.float32(GATE_UP, slice(0, 41)).any()


def test_the_first_wrong_index_is_found_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_module, "_BLOCK_ELEMENTS", 100)
    broken = np.zeros((192, 64), np.float32)
    broken[130, 63] = np.nan
    with open_checkpoint(write_checkpoint(tmp_path / "model", replace={GATE_UP: broken})) as model:
        for read in (lambda: model.float32(GATE_UP), lambda: model.check_values([GATE_UP])):
            with pytest.raises(TensorError, match=r"\[130, 63\] is nan"):
                read()


def test_an_unused_tensor_may_hold_anything(tmp_path: Path) -> None:
    unused = "model.vision_tower.vision_tower.vision_model.post_layernorm.weight"
    with open_checkpoint(write_checkpoint(tmp_path / "model", replace={unused: np.full(48, np.nan)})) as model:
        model.check()
        model.check_values()


def test_values_are_checked_with_progress_in_stored_bytes(tmp_path: Path) -> None:
    progress = Recorded()
    with open_checkpoint(write_checkpoint(tmp_path / "model")) as model:
        model.check_values(["lm_head.weight", "model.norm.weight"], progress)
    assert progress.tasks == [("check weights", 2 * (272 * 64 + 64), "B")]
    assert progress.done == progress.tasks[0][1]


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "model", shards=2)
    index = json.loads((path / "model.safetensors.index.json").read_text())
    drop_last_tensor(path / index["weight_map"]["lm_head.weight"])
    removed = index["weight_map"]
    with open_checkpoint_of_shards(path, removed) as model, pytest.raises(TensorError) as caught:
        model.check()
    assert "lacks the tensor" in caught.value.message
    assert caught.value.tensor in removed


def test_a_tensor_that_the_architecture_does_not_have_is_named(tmp_path: Path) -> None:
    extra = {"model.layers.0.self_attn.q_norm.weight": np.ones(16, np.float32)}
    with open_checkpoint(write_checkpoint(tmp_path / "model", replace=extra)) as model:
        with pytest.raises(TensorError, match="does not have: model.layers.0.self_attn.q_norm.weight"):
            model.check()


def test_a_decoder_layer_too_many_is_not_left_out_silently(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "model")
    change_config(path, num_hidden_layers=1)
    with open_checkpoint(path) as model, pytest.raises(TensorError, match=r"does not have: model\.layers\.1\."):
        model.check()


def test_an_absurd_number_of_layers_is_refused_at_its_first_missing_tensor(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "model")
    change_config(path, num_hidden_layers=10**15)
    with open_checkpoint(path) as model:
        with pytest.raises(
            TensorError, match=r"lacks the tensor model\.layers\.2\.input_layernorm\.weight of shape \[64\]"
        ):
            model.check()


def test_a_misshapen_tensor_is_named_with_both_shapes(tmp_path: Path) -> None:
    wrong = {"model.norm.weight": np.ones((64, 1), np.float32)}
    with open_checkpoint(write_checkpoint(tmp_path / "model", replace=wrong)) as model:
        with pytest.raises(
            TensorError, match=r"model\.norm\.weight has the shape \[64, 1\], config.json makes it \[64\]"
        ):
            model.check()


def test_asking_for_a_tensor_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    with open_checkpoint(write_checkpoint(tmp_path / "model")) as model:
        for ask in (model.tensor, model.float32, model.shape, model.dtype):
            with pytest.raises(TensorError, match="lacks the tensor nothing"):
                ask("nothing")


def test_files_are_those_that_were_read_with_their_hashes(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "model", shards=2)
    (path / "README.md").write_text("not read")
    (path / "modeling_phi4_visionr.py").write_text("not run")
    progress = Recorded()
    with open_checkpoint(path) as model:
        files = model.files(progress)
    assert sorted(files) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ]
    for name, entry in files.items():
        data = (path / name).read_bytes()
        assert (entry.sha256, entry.bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert progress.done == sum(entry.bytes for entry in files.values())


@pytest.mark.parametrize("needed", ["config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_directory_without_its_files_is_not_a_checkpoint(tmp_path: Path, needed: str) -> None:
    path = write_checkpoint(tmp_path / "model")
    (path / needed).unlink()
    with pytest.raises(CheckpointError, match=rf"model is not a checkpoint: it has no {needed}"):
        open_checkpoint(path)


def test_an_empty_directory_is_not_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint: it has no config.json"):
        open_checkpoint(tmp_path)


def test_a_file_is_not_a_checkpoint(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path / "model") / "model.safetensors"
    with pytest.raises(CheckpointError, match="is a file, a checkpoint is a directory") as caught:
        open_checkpoint(file)
    assert caught.value.remedy == f"give {file.parent}"


@pytest.mark.parametrize("name", ["nowhere", "./a/b", "/a/b", "a/b/c", "", "~/model", "../x"])
def test_what_is_neither_a_directory_nor_a_hub_id_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no directory .* and it is not a Hub id either|is not a checkpoint"):
        open_checkpoint(name)


def test_another_model_type_is_refused_before_its_weights_are_opened(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "model")
    (path / "config.json").write_text('{"model_type": "llama"}')
    (path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match="model_type is 'llama'"):
        open_checkpoint(path)


def test_a_directory_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path / "owner" / "model")
    monkeypatch.chdir(tmp_path)
    with open_checkpoint("owner/model") as model:
        assert model.source == "directory"


def test_the_reference_model_is_the_one_that_comes_with_phiedge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_module, "MODEL_PATH", write_checkpoint(tmp_path / "shipped"))
    monkeypatch.chdir(write_checkpoint(tmp_path / "here" / "reference").parent)
    with open_checkpoint("reference") as model:
        assert (model.source, model.path) == ("reference", tmp_path / "shipped")
    with open_checkpoint("./reference") as model:
        assert model.source == "directory"


def test_the_15b_is_opened_and_checked_without_reading_its_weights(tmp_path: Path) -> None:
    """All 30 GB of it, as files that are holes but for their headers."""
    path = write_checkpoint(tmp_path / "model")
    config = ModelConfig.from_json(PUBLISHED_CONFIG)
    write_holes(path, {name: spec.shape for name, spec in config.tensors().items()}, shards=7)
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    published = {"<|endoftext|>": 100257, "<|im_end|>": 100265, "<|dummy_85|>": 100349}
    for token in tokenizer["added_tokens"]:
        token["id"] = published.get(token["content"], token["id"])
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (path / "config.json").write_text(json.dumps(PUBLISHED_CONFIG))
    (path / "generation_config.json").unlink()
    with open_checkpoint(path) as model:
        model.check()
        assert sum(file.stat().st_size for file in path.glob("*.safetensors")) > 30_239_036_288
        last = model.float32("lm_head.weight", slice(100_350, None))
        assert last.shape == (2, 5120)
        assert not last.any()


def drop_last_tensor(file: Path) -> None:
    """Rewrite a safetensors file without the tensor that comes last in it."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = max(header, key=lambda key: header[key]["data_offsets"][0])
    end = header.pop(name)["data_offsets"][0]
    encoded = json.dumps(header).encode()
    file.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data[8 + length : 8 + length + end])


@contextmanager
def open_checkpoint_of_shards(path: Path, weight_map: dict[str, str]) -> Iterator[checkpoint_module.Checkpoint]:
    """Open shards with an index that lists exactly what they hold."""
    held = {}
    for name in set(weight_map.values()):
        data = (path / name).read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        held |= dict.fromkeys(header, name)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": held}))
    with open_checkpoint(path) as model:
        yield model


def change_config(path: Path, **values: object) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | values))


def write_holes(path: Path, shapes: dict[str, tuple[int, ...]], *, shards: int) -> None:
    """Replace the weights by bfloat16 shards whose data is a hole in the file."""
    (path / "model.safetensors").unlink()
    names, weight_map = list(shapes), {}
    for index in range(shards):
        file = path / f"model-{index + 1:05d}-of-{shards:05d}.safetensors"
        header, end = {}, 0
        for name in names[index::shards]:
            size_bytes = 2 * int(np.prod(shapes[name]))
            header[name] = {"dtype": "BF16", "shape": list(shapes[name]), "data_offsets": [end, end + size_bytes]}
            end += size_bytes
            weight_map[name] = file.name
        encoded = json.dumps(header).encode()
        with file.open("wb") as out:
            out.write(len(encoded).to_bytes(8, "little") + encoded)
            out.truncate(8 + len(encoded) + end)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
