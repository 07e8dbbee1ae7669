"""What is kept between requests: pictures known by content, rows known by what was put into them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phiedge.errors import UsageError
from phiedge.runtime.merge import RowPlan, plan_rows
from phiedge.runtime.preprocess import Grid
from phiedge.runtime.prompt import Prompt
from phiedge.runtime.reuse import Memory, PictureKey, content_of

GRID = Grid(rows=2, columns=3)
PICTURE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def key(name: bytes, grid: Grid = GRID) -> PictureKey:
    return PictureKey(content=name, grid=grid)


def layout(*pieces: tuple[int, ...], grid: Grid = GRID) -> RowPlan:
    prompt = Prompt(pieces=pieces, starts_thinking=False)
    return plan_rows(prompt, [grid] * prompt.images, context=100, room=0, cut_at=None)


def remember(memory: Memory, plan: RowPlan, keys: list[PictureKey]) -> None:
    memory.number(keys)
    memory.hold(0, memory.row_ids(plan, keys))


@pytest.fixture
def memory() -> Memory:
    return Memory(100, 10_000)


def test_rows_in_common_are_found_up_to_the_first_that_differs(memory: Memory) -> None:
    remember(memory, layout((1, 2), (3, 4, 5)), [key(b"a")])
    again = layout((1, 2), (3, 9, 5))
    assert memory.find(again, [key(b"a")], length=11).rows == 2 + 6 + 1
    assert memory.find(again, [key(b"b")], length=11).rows == 2
    assert memory.find(layout((7, 2), (3,)), [key(b"a")], length=11).rows == 0


def test_only_rows_that_were_computed_count(memory: Memory) -> None:
    remember(memory, layout((1, 2), (3, 4, 5)), [key(b"a")])
    assert memory.find(layout((1, 2), (3, 4, 5)), [key(b"a")], length=5).rows == 5
    assert memory.find(layout((1, 2), (3, 4, 5)), [key(b"a")], length=0).rows == 0


def test_the_last_row_is_always_computed(memory: Memory) -> None:
    remember(memory, layout((1, 2), (3, 4, 5)), [key(b"a")])
    assert memory.find(layout((1, 2), (3, 4, 5)), [key(b"a")], length=11).rows == 10


def test_the_same_picture_on_another_grid_is_another(memory: Memory) -> None:
    plan, other = layout((1,), (2,)), Grid(rows=3, columns=2)
    remember(memory, plan, [key(b"a")])
    turned = layout((1,), (2,), grid=other)
    assert memory.find(plan, [key(b"a")], length=8).rows == 7
    assert memory.find(turned, [key(b"a", other)], length=8).rows == 1


def test_what_was_answered_counts_as_well(memory: Memory) -> None:
    remember(memory, layout((1, 2)), [])
    memory.hold_token(2, 7)
    memory.hold_token(3, 8)
    assert memory.find(layout((1, 2, 7, 8, 9)), [], length=4).rows == 4
    memory.forget_rows()
    assert memory.find(layout((1, 2, 7, 8, 9)), [], length=4).rows == 0


def test_features_are_kept_up_to_the_bytes_that_they_may_take(memory: Memory) -> None:
    features = np.ones((6, 100), np.float32)  # 2400 bytes: four of them fit
    for name in (b"a", b"b", b"c", b"d"):
        memory.keep_features(key(name), features)
    assert memory.features(key(b"a")) is not None, "used last now"
    memory.keep_features(key(b"e"), 2 * features)
    assert memory.features(key(b"b")) is None
    assert [memory.features(key(name)) is not None for name in (b"a", b"c", b"d", b"e")] == [True] * 4
    memory.keep_features(key(b"f"), np.ones((6, 1000), np.float32))
    assert memory.features(key(b"f")) is None, "larger than all that may be kept"


def test_kept_features_are_a_copy(memory: Memory) -> None:
    features = np.ones((6, 10), np.float32)
    memory.keep_features(key(b"a"), features)
    features[:] = 5
    assert np.all(memory.features(key(b"a")) == 1)


def test_a_picture_with_kept_features_needs_nothing_even_where_its_rows_are_gone(memory: Memory) -> None:
    memory.keep_features(key(b"a"), np.ones((6, 10), np.float32))
    kept = memory.find(layout((1,), (2,), (3,)), [key(b"a"), key(b"b")], length=0)
    assert (kept.rows, kept.pictures) == (0, frozenset({0}))


def test_a_limit_below_zero_is_refused() -> None:
    with pytest.raises(UsageError, match="reuse_bytes"):
        Memory(10, -1)


def test_a_picture_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    image = Image.fromarray(PICTURE)
    file = io.BytesIO()
    image.save(file, "PNG")
    assert content_of(PICTURE) == content_of(PICTURE.copy()) == content_of(PICTURE[:, ::-1][:, ::-1])
    assert content_of(image) == content_of(image.copy())
    assert content_of(file.getvalue()) == content_of(bytes(file.getvalue()))
    changed = PICTURE.copy()
    changed[3, 3, 2] += 1
    different = [PICTURE, changed, PICTURE.reshape(2, 8, 3), image, image.convert("L"), file.getvalue()]
    assert len({content_of(source) for source in different}) == len(different)


def test_transparency_and_orientation_make_another_picture() -> None:
    image, turned, pale = (Image.fromarray(PICTURE).convert("P") for _ in range(3))
    turned.getexif()[0x0112] = 6
    pale.info["transparency"] = 3
    assert len({content_of(source) for source in (image, turned, pale)}) == 3
