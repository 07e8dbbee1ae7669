from pathlib import Path

import numpy as np
import pytest
import torch

from phiedge.exporters.checkpoint import open_checkpoint
from phiedge.runtime.positions import PositionTable, resize_weights
from phiedge.runtime.preprocess import Grid

ORACLE = Path(__file__).parents[1] / "oracle" / "tiny"
TABLE = "model.vision_tower.vision_tower.vision_model.embeddings.position_embedding.weight"


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    with open_checkpoint(ORACLE) as checkpoint:
        return checkpoint.float32(TABLE)


@pytest.mark.parametrize("name", ["img1", "img1_think", "img1_nothink", "img2", "img2_swapped"])
def test_positions_are_the_publishers(oracle, table: np.ndarray, name: str) -> None:
    case = oracle.case(name)
    positions = PositionTable(table, side=16)
    for place, (rows, columns) in enumerate(case["spatial_shapes"].tolist()):
        embedded = positions.embed(Grid(rows=rows, columns=columns))
        np.testing.assert_allclose(embedded, case[f"pos_embed_{place}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "columns"), [(16, 16), (1, 16), (5, 3), (45, 80), (60, 60), (1, 3600), (134, 2), (3, 75)]
)
def test_positions_are_torchs_antialiased_resize(table: np.ndarray, rows: int, columns: int) -> None:
    grid = torch.from_numpy(table.reshape(1, 16, 16, -1)).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(
        grid, size=(rows, columns), mode="bilinear", align_corners=False, antialias=True
    )
    expected = resized[0].permute(1, 2, 0).reshape(rows * columns, -1).numpy()
    embedded = PositionTable(table, side=16).embed(Grid(rows=rows, columns=columns))
    np.testing.assert_allclose(embedded, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 7, 15, 16, 17, 80, 3600])
def test_weights_of_a_position_sum_to_one(count: int) -> None:
    np.testing.assert_allclose(resize_weights(count, 16).sum(axis=1), 1.0, atol=1e-12)


def test_the_tables_own_grid_is_the_table(table: np.ndarray) -> None:
    assert np.array_equal(PositionTable(table, side=16).embed(Grid(rows=16, columns=16)), table)


def test_a_grid_is_computed_once_and_cannot_be_written(table: np.ndarray) -> None:
    positions = PositionTable(table, side=16)
    first = positions.embed(Grid(rows=3, columns=4))
    assert positions.embed(Grid(rows=3, columns=4)) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1.0


def test_only_the_grids_used_last_are_kept(table: np.ndarray) -> None:
    positions = PositionTable(table, side=16)
    first = positions.embed(Grid(rows=1, columns=1))
    for rows in range(2, 10):
        positions.embed(Grid(rows=rows, columns=1))
    assert positions.embed(Grid(rows=1, columns=1)) is not first


def test_half_precision_is_rounded_after_the_resize(table: np.ndarray) -> None:
    half = PositionTable(table, side=16, dtype=np.float16).embed(Grid(rows=9, columns=20))
    assert np.array_equal(half, PositionTable(table, side=16).embed(Grid(rows=9, columns=20)).astype(np.float16))
