import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiedge.runtime.preprocess import Grid, PatchBudget, Patchifier, choose_grid, fit_picture

BUDGET = PatchBudget(patch_size=16, min_patches=256, max_patches=3600)


def test_every_row_of_the_publishers_resize_table_is_met(oracle) -> None:
    table = oracle.arrays["resize/table"]
    assert len(table) == 967
    wrong = [
        (width, height)
        for width, height, rows, columns in table.tolist()
        if choose_grid(width, height, BUDGET) != Grid(rows=rows, columns=columns)
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["img1", "img1_think", "img1_nothink", "img2", "img2_swapped"])
def test_patches_are_the_publishers_to_the_bit(oracle, name: str) -> None:
    case = oracle.case(name)
    for place, pixels in enumerate(case.images):
        picture = fit_picture(pixels, BUDGET)
        assert [picture.grid.rows, picture.grid.columns] == case["spatial_shapes"][place].tolist()
        patches = np.empty((picture.grid.tokens, 768), np.float32)
        Patchifier(16).write(picture, patches)
        assert np.array_equal(patches, case["pixel_values"][place][: picture.grid.tokens])


def test_in_a_patch_the_channel_runs_fastest_and_rows_of_patches_come_first() -> None:
    pixels = np.zeros((2 * 16, 3 * 16, 3), np.uint8)
    pixels[16 + 5, 2 * 16 + 7, 1] = 255
    picture = fit_picture(pixels, PatchBudget(patch_size=16, min_patches=6, max_patches=6))
    patches = np.empty((6, 768), np.float32)
    Patchifier(16).write(picture, patches)
    assert np.argwhere(patches == 1.0).tolist() == [[1 * 3 + 2, (5 * 16 + 7) * 3 + 1]]


def test_half_precision_patches_are_the_rounded_single_precision_ones() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture = fit_picture(pixels, BUDGET)
    single, half = (np.empty((picture.grid.tokens, 768), dtype) for dtype in (np.float32, np.float16))
    Patchifier(16, np.float32).write(picture, single)
    Patchifier(16, np.float16).write(picture, half)
    assert np.array_equal(half, single.astype(np.float16))


def test_a_picture_of_one_pixel_is_seen() -> None:
    picture = fit_picture(np.full((1, 1, 3), 77, np.uint8), BUDGET)
    assert picture.grid == Grid(rows=7, columns=7)  # the scale ends at 100
    assert (picture.pixels == 77).all()


def test_the_callers_cap_holds_below_the_models_minimum() -> None:
    capped = PatchBudget(patch_size=16, min_patches=256, max_patches=3600, cap=100)
    assert choose_grid(1920, 1080, capped).tokens <= 100
    assert choose_grid(64, 64, capped).tokens <= 100
    assert choose_grid(1920, 1080, PatchBudget(patch_size=16, min_patches=256, max_patches=3600, cap=1)).tokens == 1


def test_a_cap_above_the_models_limit_changes_nothing() -> None:
    generous = PatchBudget(patch_size=16, min_patches=256, max_patches=3600, cap=10**6)
    assert choose_grid(4000, 3000, generous) == choose_grid(4000, 3000, BUDGET)


@given(width=st.integers(1, 60_000), height=st.integers(1, 60_000), cap=st.none() | st.integers(1, 4000))
def test_no_picture_exceeds_its_target(width: int, height: int, cap: int | None) -> None:
    budget = PatchBudget(patch_size=16, min_patches=256, max_patches=3600, cap=cap)
    grid = choose_grid(width, height, budget)
    assert 1 <= grid.tokens <= budget.target(width, height) <= 3600
