"""Files of tensors: what the format's own library reads, in one file or in shards."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from phiedge.exporters.checkpoints import tensor_file
from phiedge.exporters.checkpoints.tensor_file import TensorOut, needed_bytes, write_tensors


def tensors() -> list[TensorOut]:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    return [
        TensorOut(name="a", dtype="F32", shape=(4, 3), parts=lambda: (rows[:1], rows[1:])),
        TensorOut.of("b", "I32", np.arange(5, dtype=np.int32)),
        TensorOut.of("c", "U8", np.zeros((0, 2), dtype=np.uint8)),
    ]


def test_the_formats_own_library_reads_it(tmp_path: Path) -> None:
    assert write_tensors(tmp_path, tensors()) == ("model.safetensors",)
    read = load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(read["a"], np.arange(12, dtype=np.float32).reshape(4, 3))
    np.testing.assert_array_equal(read["b"], np.arange(5, dtype=np.int32))
    assert read["c"].shape == (0, 2)
    assert (tmp_path / "model.safetensors").stat().st_size == needed_bytes(tensors())


def test_a_large_model_is_split_between_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_file, "SHARD_BYTES", 50)
    files = write_tensors(tmp_path, tensors())
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    assert files == (*shards, "model.safetensors.index.json")
    index = json.loads((tmp_path / files[-1]).read_text())
    assert index == {"metadata": {"total_size": 68}, "weight_map": dict(zip("abc", (*shards, shards[1]), strict=True))}
    assert sorted(load_file(tmp_path / shards[1])) == ["b", "c"]
    assert sum((tmp_path / name).stat().st_size for name in shards) == needed_bytes(tensors())


def test_a_tensor_that_makes_other_than_its_shape_is_a_defect(tmp_path: Path) -> None:
    wrong = TensorOut(name="a", dtype="F32", shape=(4,), parts=lambda: (np.zeros(3, np.float32),))
    with pytest.raises(AssertionError, match="a: 12 bytes instead of 16"):
        write_tensors(tmp_path, [wrong])
