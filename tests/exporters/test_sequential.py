from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from fake_checkpoints import write_safetensors
from phiedge.bundle import FileEntry, hash_file
from phiedge.exporters.safetensors_file import SafetensorsFile
from phiedge.exporters.sequential import Buffers, read_in_order


@pytest.fixture
def shards(tmp_path: Path) -> Iterator[list[SafetensorsFile]]:
    random = np.random.default_rng(0)
    tensors = {"a": (5, 8), "b": (3,)}, {"c": (2, 3, 4), "d": (7, 2)}
    for name, of_file, dtype in zip(("1", "2"), tensors, ("bfloat16", "float32"), strict=True):
        values = {tensor: random.standard_normal(shape) for tensor, shape in of_file.items()}
        write_safetensors(tmp_path / name, values, dtype)
    with ExitStack() as stack:
        yield [stack.enter_context(closing(SafetensorsFile(tmp_path / name))) for name in ("1", "2")]


@pytest.mark.parametrize("block_bytes", [1, 40, 1 << 20])
def test_what_is_wanted_comes_in_the_order_of_the_files_in_blocks_of_rows(
    tmp_path: Path, shards: list[SafetensorsFile], block_bytes: int
) -> None:
    found: dict[str, FileEntry] = {}
    read: dict[str, list[np.ndarray]] = {}
    for block in read_in_order(shards, {"d", "a"}, block_bytes=block_bytes, known={}, found=found.__setitem__):
        values = block.load()
        assert values.shape == block.shape
        assert not values.flags.writeable
        assert block.rows.start == sum(len(part) for part in read.get(block.name, []))
        read.setdefault(block.name, []).append(values.copy())
        block.release()
    assert list(read) == ["a", "d"]
    np.testing.assert_array_equal(np.concatenate(read["a"]), shards[0].read("a"))
    np.testing.assert_array_equal(np.concatenate(read["d"]), shards[1].read("d"))
    assert {name: entry.sha256 for name, entry in found.items()} == {
        name: hash_file(tmp_path / name) for name in ("1", "2")
    }


def test_of_a_file_that_is_known_only_what_is_wanted_is_read(
    shards: list[SafetensorsFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, FileEntry] = {}
    known = {"1": FileEntry(sha256="0" * 64, bytes=1), "2": FileEntry(sha256="0" * 64, bytes=1)}
    monkeypatch.setattr("phiedge.exporters.sequential._Reader.pass_over", None)
    blocks = list(read_in_order(shards, {"d"}, block_bytes=1 << 20, known=known, found=found.__setitem__))
    assert [block.name for block in blocks] == ["d"]
    np.testing.assert_array_equal(blocks[0].load(), shards[1].read("d"))
    assert found == {}


def test_buffers_go_round() -> None:
    buffers = Buffers(10)
    first = buffers.take(10)
    assert buffers.take(3) is not first
    buffers.give_back(first)
    assert buffers.take(5) is first
    large = buffers.take(11)
    assert large.size == 11
    buffers.give_back(large)
    assert buffers.take(10).size == 10
