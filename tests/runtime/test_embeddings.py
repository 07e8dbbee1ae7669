from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phiedge.bundle import Bundle, Table
from phiedge.errors import BundleError
from phiedge.runtime.embeddings import EmbeddingTable, map_table, read_positions

VALUES = np.array([[1.0, -2.5, 3e-5], [65504.0, 0.0, -0.1]], np.float32)


def bundle_with(path: Path, values: np.ndarray, dtype: str) -> Bundle:
    """A bundle in name only: what the tables need of one."""
    (path / "table.bin").write_bytes(values.tobytes())

    class OnlyTables:
        class manifest:  # noqa: N801
            embed_tokens = positions = Table(file="table.bin", dtype=dtype, shape=values.shape)

        @staticmethod
        def file(name: str) -> Path:
            return path / name

    return OnlyTables


def bfloat16_bits(values: np.ndarray) -> np.ndarray:
    return (values.view(np.uint32) >> 16).astype(np.uint16)


ROWS = {"float32": VALUES, "float16": VALUES.astype(np.float16), "bfloat16": bfloat16_bits(VALUES)}


@pytest.mark.parametrize("dtype", ROWS)
@pytest.mark.parametrize("wanted", [np.float32, np.float16])
def test_a_writer_writes_row_after_row_as_many_rows_at_once(tmp_path: Path, dtype: str, wanted: type) -> None:
    table = EmbeddingTable(bundle_with(tmp_path, ROWS[dtype], dtype))
    tokens = (1, 0, 1, 1, 0)
    at_once = np.full((5, 3), np.nan, wanted)
    table.copy_rows(tokens, at_once)
    row = np.full(3, np.nan, wanted)
    writer = table.writer(row)
    for token, expected in zip(tokens, at_once, strict=True):
        writer.write(token)
        assert np.array_equal(row, expected)


def test_single_precision_rows_come_as_stored(tmp_path: Path) -> None:
    out = np.empty((3, 3), np.float32)
    EmbeddingTable(bundle_with(tmp_path, VALUES, "float32")).copy_rows((1, 0, 1), out)
    assert np.array_equal(out, VALUES[[1, 0, 1]])


def test_half_precision_rows_are_widened_exactly(tmp_path: Path) -> None:
    out = np.empty((2, 3), np.float32)
    EmbeddingTable(bundle_with(tmp_path, ROWS["float16"], "float16")).copy_rows((0, 1), out)
    assert np.array_equal(out, ROWS["float16"].astype(np.float32))


def test_bfloat16_is_widened_by_its_bits(tmp_path: Path) -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    out = np.empty((256, 256), np.float32)
    EmbeddingTable(bundle_with(tmp_path, every, "bfloat16")).copy_rows(tuple(range(256)), out)
    assert np.array_equal(out.view(np.uint32), every.astype(np.uint32) << 16)


@pytest.mark.parametrize("dtype", ROWS)
def test_rows_for_a_half_precision_decoder_are_rounded_once(tmp_path: Path, dtype: str) -> None:
    table = EmbeddingTable(bundle_with(tmp_path, ROWS[dtype], dtype))
    single, half = np.empty((2, 3), np.float32), np.empty((2, 3), np.float16)
    table.copy_rows((0, 1), single)
    table.copy_rows((0, 1), half)
    assert np.array_equal(half, single.astype(np.float16))


def test_the_position_table_is_single_precision(tmp_path: Path) -> None:
    positions = read_positions(bundle_with(tmp_path, bfloat16_bits(VALUES), "bfloat16"))
    assert positions.dtype == np.float32
    np.testing.assert_allclose(positions, VALUES, rtol=0.01)


def test_a_table_is_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, VALUES, "float32")
    table = map_table(tmp_path / "table.bin", bundle.manifest.embed_tokens)
    assert not table.flags.writeable
    assert not table.flags.owndata


def test_a_table_of_the_wrong_size_is_refused_with_both_numbers(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, VALUES, "float32")
    larger = replace(bundle.manifest.embed_tokens, shape=(3, 3))
    with pytest.raises(BundleError, match=r"has 24 bytes, a float32 table of \[3, 3\] has 36"):
        map_table(tmp_path / "table.bin", larger)
