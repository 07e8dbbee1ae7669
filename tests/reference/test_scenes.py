import hashlib
import itertools
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from phiedge.reference.scenes import COLOURS, KINDS, LABELS, SHAPES, Item, Scene, draw_scene, random_size

SEEDS = range(120)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(seed) for seed in SEEDS]


def digest(scene: Scene) -> str:
    return hashlib.sha256(scene.picture.tobytes() + repr(scene.items).encode()).hexdigest()


def overlap(a: Item, b: Item) -> bool:
    return a.box[0] < b.box[2] and b.box[0] < a.box[2] and a.box[1] < b.box[3] and b.box[1] < a.box[3]


def seen_colour(scene: Scene, item: Item) -> str:
    """The named colour that most pixels in the item's box are nearest to; nothing here knows how it was drawn."""
    x1, y1, x2, y2 = item.box
    pixels = np.asarray(scene.picture, np.float64)[y1:y2, x1:x2].reshape(-1, 1, 3)
    nearest = np.square(pixels - np.array(list(COLOURS.values()))).sum(axis=2).argmin(axis=1)
    return list(COLOURS)[Counter(nearest.tolist()).most_common(1)[0][0]]


def test_a_seed_always_gives_the_same_scene() -> None:
    assert digest(draw_scene(7)) == digest(draw_scene(7))
    assert len({digest(draw_scene(seed)) for seed in range(20)}) == 20


def test_a_seed_gives_the_same_scene_in_another_process() -> None:
    code = (
        "import hashlib; from phiedge.reference.scenes import draw_scene; scene = draw_scene(7)\n"
        "print(hashlib.sha256(scene.picture.tobytes() + repr(scene.items).encode()).hexdigest())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == digest(draw_scene(7))


@pytest.mark.parametrize("place", ["kiosk", "shelf"])
@pytest.mark.parametrize("size", [(96, 96), (320, 176), (700, 380)])
def test_size_and_place_are_what_was_asked_for(place: str, size: tuple[int, int]) -> None:
    scene = draw_scene(3, size=size, place=place)
    assert (scene.place, scene.picture.size, scene.picture.mode) == (place, size, "RGB")


def test_both_places_and_everything_in_them_turn_up(scenes: list[Scene]) -> None:
    assert {scene.place for scene in scenes} == {"kiosk", "shelf"}
    assert {item.kind for scene in scenes for item in scene.items} == set(KINDS)
    assert {item.colour for scene in scenes for item in scene.items if item.colour} == set(COLOURS)
    assert {item.label for scene in scenes for item in scene.items if item.label} == set(LABELS)


def test_everything_lies_inside_the_picture(scenes: list[Scene]) -> None:
    for scene in scenes:
        width, height = scene.picture.size
        for item in scene.items:
            x1, y1, x2, y2 = item.box
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height


def test_buttons_displays_and_products_do_not_cover_each_other(scenes: list[Scene]) -> None:
    for scene in scenes:
        things = scene.of_kind("button", "display", *SHAPES)
        assert not any(overlap(a, b) for a, b in itertools.combinations(things, 2))


def test_things_have_the_colours_that_are_said_of_them(scenes: list[Scene]) -> None:
    coloured = [(scene, item) for scene in scenes for item in scene.items if item.colour is not None]
    right = sum(seen_colour(scene, item) == item.colour for scene, item in coloured)
    assert right >= 0.98 * len(coloured), "in a dark picture, yellow may come near to orange"


def test_no_two_buttons_of_a_kiosk_say_the_same(scenes: list[Scene]) -> None:
    for scene in scenes:
        labels = [button.label for button in scene.of_kind("button")]
        assert len(labels) == len(set(labels))


def test_glyphs_spell_what_is_written_from_left_to_right(scenes: list[Scene]) -> None:
    for scene in scenes:
        for item in scene.of_kind("button", "display", "tag"):
            written = item.label if item.kind == "button" else str(item.number)
            assert "".join(glyph.character for glyph in item.glyphs) == written
            places = [glyph.x for glyph in item.glyphs]
            assert places == sorted(places)
            assert all(item.box[1] <= glyph.y <= item.box[3] for glyph in item.glyphs)


def test_a_product_has_the_price_of_the_tag_below_it(scenes: list[Scene]) -> None:
    for scene in scenes:
        tags = scene.of_kind("tag")
        for product in scene.products:
            below = [
                t for t in tags if t.box[0] <= product.centre[0] <= t.box[2] and 0 <= t.box[1] - product.box[3] < 9
            ]
            assert [tag.number for tag in below] == ([] if product.number is None else [product.number])


def test_sizes_stay_within_the_aspects_and_often_exceed_the_patch_budget() -> None:
    random = np.random.default_rng(0)
    sizes = [random_size(random) for _ in range(2000)]
    assert all(side >= 96 for size in sizes for side in size)
    assert all(0.45 < width / height < 2.2 for width, height in sizes)
    large = sum(width * height > 256 * 256 for width, height in sizes) / len(sizes)
    assert 0.07 < large < 0.13
