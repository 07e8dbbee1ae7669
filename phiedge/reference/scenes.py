"""Pictures of kiosk screens and shop shelves, with everything that stands in them known.

A scene is drawn from a seed with Pillow alone, so that the same seed gives the same objects everywhere. The pictures
are the reference model's whole world: it was trained on them (`train.py`) and is scored on held-out ones
(`evaluate.py`). Nothing here knows about models.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (208, 40, 40),
    "green": (44, 150, 62),
    "blue": (38, 84, 206),
    "yellow": (240, 208, 40),
    "orange": (242, 132, 28),
    "purple": (132, 52, 168),
    "black": (24, 24, 26),
    "white": (246, 246, 246),
}
LABELS = (
    "PAY", "OK", "HELP", "BACK", "NEXT", "STOP", "CARD", "CASH", "TEA", "MENU", "HOME", "EXIT",
    "YES", "NO", "SCAN", "BUY", "TAX", "TICKET", "PRINT", "START", "COLA", "MILK", "SOUP", "BREAD",
)  # fmt: skip
SHAPES = ("box", "can", "bottle", "ball")
KINDS = ("button", "display", "tag", *SHAPES)

_SCREENS = ((226, 230, 236), (246, 240, 226), (188, 200, 214), (52, 60, 78), (96, 108, 112))
_WALLS = ((236, 228, 212), (214, 222, 226), (228, 214, 220), (200, 206, 196))
_MAX_AREA = 256 * 256  # pixels the reference model sees at most; larger pictures are drawn with larger things in them


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyph:
    """A written character and its centre in pixels."""

    character: str
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing in a scene; `box` is (x1, y1, x2, y2) in pixels, right and bottom excluded."""

    kind: str
    box: tuple[int, int, int, int]
    colour: str | None = None
    label: str | None = None
    number: int | None = None
    glyphs: tuple[Glyph, ...] = ()

    @property
    def centre(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A drawn picture (RGB) and the items in it. `place` is "kiosk" or "shelf"; `rows` is the number of shelves."""

    place: str
    picture: Image.Image
    items: tuple[Item, ...]
    rows: int = 0

    def of_kind(self, *kinds: str) -> list[Item]:
        return [item for item in self.items if item.kind in kinds]

    @property
    def products(self) -> list[Item]:
        return self.of_kind(*SHAPES)


def draw_scene(seed: int, *, size: tuple[int, int] | None = None, place: str | None = None) -> Scene:
    """Draw the scene of a seed; `size` is (width, height) in pixels and is drawn from the seed when absent."""
    rng = np.random.default_rng(seed)
    width, height = size or random_size(rng)
    place = place or ("kiosk" if rng.random() < 0.5 else "shelf")
    return _draw_kiosk(rng, width, height) if place == "kiosk" else _draw_shelf(rng, width, height)


def random_size(rng: np.random.Generator) -> tuple[int, int]:
    """A (width, height), aspect ratio 1:2 to 2:1; one picture in ten is larger than the model's patch budget."""
    area = math.exp(rng.uniform(math.log(100 * 100), math.log(184 * 184)))
    if rng.random() < 0.1:
        area = math.exp(rng.uniform(math.log(_MAX_AREA), math.log(6.0 * _MAX_AREA)))
    aspect = math.exp(rng.uniform(-math.log(2), math.log(2)))
    return max(96, round(math.sqrt(area * aspect))), max(96, round(math.sqrt(area / aspect)))


def _scale(width: int, height: int) -> float:
    """Pixels per design unit: 1 for pictures inside the patch budget, more for those that will be shrunk to it."""
    return max(1.0, math.sqrt(width * height / _MAX_AREA))


@lru_cache(maxsize=64)
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=pixels)


def _ink(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return (0, 0, 0) if luminance > 120 else (255, 255, 255)


def _write(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], text: str, size: float, ink: tuple[int, int, int]
) -> tuple[Glyph, ...]:
    """Write `text` in the middle of `box`, smaller where it would not fit; returns where each character stands."""
    font = _font(max(8, round(size)))
    while font.getlength(text) > box[2] - box[0] - 3 and size > 9:
        size -= 1
        font = _font(max(8, round(size)))
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    draw.text((x, y), text, font=font, fill=ink, anchor="mm")
    left = x - font.getlength(text) / 2
    return tuple(
        Glyph(character=text[k], x=left + (font.getlength(text[:k]) + font.getlength(text[: k + 1])) / 2, y=y)
        for k in range(len(text))
    )


def _noisy(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A little brightness change and grain, as a camera would add."""
    pixels = np.asarray(picture, np.float32) * rng.uniform(0.86, 1.08) + rng.uniform(-8, 8)
    pixels += rng.normal(0, rng.uniform(0, 5), size=(*pixels.shape[:2], 1)).astype(np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _shaded(rng: np.random.Generator, name: str) -> tuple[int, int, int]:
    """A colour's own shade in this picture."""
    shift = rng.integers(-14, 15, size=3)
    red, green, blue = (int(np.clip(c + s, 0, 255)) for c, s in zip(COLOURS[name], shift, strict=True))
    return red, green, blue


def _palette(rng: np.random.Generator) -> list[str]:
    """The colours in use in one scene: few, so that things are worth counting, or all."""
    names = list(COLOURS)
    count = int(rng.integers(2, 9))
    return [names[i] for i in rng.permutation(len(names))[:count]]


def _draw_kiosk(rng: np.random.Generator, width: int, height: int) -> Scene:
    scale = _scale(width, height)
    screen = _SCREENS[int(rng.integers(len(_SCREENS)))]
    picture = Image.new("RGB", (width, height), screen)
    draw = ImageDraw.Draw(picture)
    items: list[Item] = []
    top = 0
    if rng.random() < 0.75:
        display, top = _draw_display(rng, draw, width, scale)
        items.append(display)
    columns = int(rng.integers(1, max(2, min(2, int(width / (50 * scale))) + 1)))
    lines = int(rng.integers(1, max(2, min(3, int((height - top) / (32 * scale))) + 1)))
    cell_w, cell_h = width / columns, (height - top) / lines
    cells = rng.permutation(columns * lines)[: max(1, min(4, round(columns * lines * rng.uniform(0.6, 1.01))))]
    labels, palette = rng.permutation(len(LABELS)), _palette(rng)
    for k, cell in enumerate(sorted(int(c) for c in cells)):
        w = min(cell_w - 5 * scale, rng.uniform(50, 92) * scale)
        h = min(cell_h - 5 * scale, rng.uniform(24, 44) * scale)
        x = (cell % columns) * cell_w + rng.uniform(2 * scale, cell_w - w - 2 * scale)
        y = top + (cell // columns) * cell_h + rng.uniform(2 * scale, cell_h - h - 2 * scale)
        box = (round(x), round(y), round(x + w), round(y + h))
        colour, label = palette[int(rng.integers(len(palette)))], LABELS[int(labels[k])]
        fill = _shaded(rng, colour)
        draw.rounded_rectangle(
            (box[0], box[1], box[2] - 1, box[3] - 1),
            radius=int(rng.uniform(0, 9) * scale),
            fill=fill,
            outline=(70, 70, 74),
        )
        glyphs = _write(draw, box, label, min(rng.uniform(14, 19) * scale, h * 0.8), _ink(fill))
        items.append(Item(kind="button", box=box, colour=colour, label=label, glyphs=glyphs))
    return Scene(place="kiosk", picture=_noisy(picture, rng), items=tuple(items))


def _draw_display(rng: np.random.Generator, draw: ImageDraw.ImageDraw, width: int, scale: float) -> tuple[Item, int]:
    """A number on a dark panel at the top; returns it and the height it takes."""
    w, h = rng.uniform(40, min(80.0, width / scale - 8)) * scale, rng.uniform(22, 32) * scale
    x, y = rng.uniform(3, width - w - 3), rng.uniform(3, 8) * scale
    box = (round(x), round(y), round(x + w), round(y + h))
    number = int(rng.integers(0, 10))
    draw.rectangle(
        (box[0], box[1], box[2] - 1, box[3] - 1), fill=(10, 26, 20), outline=(130, 140, 140), width=max(1, round(scale))
    )
    glyphs = _write(draw, box, str(number), rng.uniform(17, 22) * scale, (120, 255, 170))
    return Item(kind="display", box=box, number=number, glyphs=glyphs), round(y + h + 3 * scale)


def _draw_shelf(rng: np.random.Generator, width: int, height: int) -> Scene:
    scale = _scale(width, height)
    picture = Image.new("RGB", (width, height), _WALLS[int(rng.integers(len(_WALLS)))])
    draw = ImageDraw.Draw(picture)
    rows = int(rng.integers(1, max(2, min(2, int(height / (60 * scale))) + 1)))
    columns = int(rng.integers(2, max(3, min(3, int(width / (36 * scale))) + 1)))
    row_h, cell_w = height / rows, width / columns
    palette, priced = _palette(rng), rng.random() < 0.8
    items: list[Item] = []
    for row in range(rows):
        floor = (row + 1) * row_h - 20 * scale
        draw.rectangle((0, round(floor), width, round(floor + 19 * scale)), fill=(150, 116, 82), outline=(104, 78, 52))
        for column in range(columns):
            if rng.random() < 0.3:
                continue
            w = min(rng.uniform(26, 46) * scale, cell_w - 6 * scale)
            h = min(rng.uniform(28, 60) * scale, row_h - 25 * scale)
            x = column * cell_w + rng.uniform(2 * scale, cell_w - w - 2 * scale)
            item = _draw_product(rng, draw, palette, (x, floor - h, x + w, floor))
            if priced:
                tag = _draw_tag(rng, draw, item, floor, scale)
                item = Item(kind=item.kind, box=item.box, colour=item.colour, number=tag.number)
                items.append(tag)
            items.append(item)
    return Scene(place="shelf", picture=_noisy(picture, rng), items=tuple(items), rows=rows)


def _draw_product(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, palette: list[str], place: tuple[float, float, float, float]
) -> Item:
    """One product that stands on the floor of `place`: (left, top, right, floor)."""
    shape, colour = SHAPES[int(rng.integers(len(SHAPES)))], palette[int(rng.integers(len(palette)))]
    x1, y1, x2, y2 = (round(v) for v in place)
    if shape == "ball":
        side = min(x2 - x1, y2 - y1)
        x2, y1 = x1 + side, y2 - side
    elif shape == "bottle":
        x2 = x1 + max(20, round((x2 - x1) * 0.7))
    fill, edge = _shaded(rng, colour), (60, 56, 56)
    w, h = x2 - x1, y2 - y1
    if shape == "box":
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=fill, outline=edge)
        draw.line((x1, y1 + h // 4, x2 - 1, y1 + h // 4), fill=edge)
    elif shape == "ball":
        draw.ellipse((x1, y1, x2 - 1, y2 - 1), fill=fill, outline=edge)
    elif shape == "can":
        cap = max(4, h // 6)
        draw.rectangle((x1, y1 + cap // 2, x2 - 1, y2 - 1), fill=fill, outline=edge)
        draw.ellipse((x1, y1, x2 - 1, y1 + cap), fill=(200, 202, 206), outline=edge)
        draw.rectangle((x1, y2 - cap // 2 - 1, x2 - 1, y2 - 1), fill=(200, 202, 206), outline=edge)
    else:
        draw.rectangle((x1 + w // 3, y1, x2 - 1 - w // 3, y1 + h // 3 + 2), fill=fill, outline=edge)
        draw.rounded_rectangle((x1, y1 + h // 3, x2 - 1, y2 - 1), radius=max(2, w // 4), fill=fill, outline=edge)
    return Item(kind=shape, box=(x1, y1, x2, y2), colour=colour)


def _draw_tag(rng: np.random.Generator, draw: ImageDraw.ImageDraw, item: Item, floor: float, scale: float) -> Item:
    centre, number = item.centre[0], int(rng.integers(0, 10))
    x1 = max(0, round(centre - 11 * scale))
    box = (x1, round(floor + scale), x1 + round(22 * scale), round(floor + 18 * scale))
    draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=(252, 252, 248), outline=(90, 90, 90))
    glyphs = _write(draw, box, str(number), 17 * scale, (16, 16, 16))
    return Item(kind="tag", box=box, number=number, glyphs=glyphs)
