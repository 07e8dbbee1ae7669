"""Pages of text, bar charts and sums in words, with a question about each: what a model for screens and documents meets
besides the scenes of `scenes.py`.

The reference model was not trained on them; they are there to calibrate on, because a quantised model should keep what
it can do with them, too. Drawn with Pillow from a seed, as the scenes are.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from phiedge.reference.scenes import COLOURS

_PROSE = (
    "the order was sent to your account on Monday and will arrive within three working days please keep this receipt "
    "total amount paid by card invoice number customer service open from nine until six street city country date "
    "quantity price tax item description payment due thank you for your visit table of contents section figure shows "
    "results were measured under normal conditions temperature pressure speed robot arm sensor camera battery level "
    "turn left after the station then walk two hundred metres if the door is closed press the button and wait"
)
_WORDS = _PROSE.split()
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A question with its answer and the thought that leads to it; `picture` is RGB, None where there is only text."""

    picture: Image.Image | None
    prompt: str
    thinking: str
    answer: str


def draw_document(seed: int, size: tuple[int, int]) -> Page:
    """A page of text with a heading; the question is what the heading says."""
    rng = np.random.default_rng([11, seed])
    width, height = size
    picture = Image.new("RGB", size, (252, 252, 248))
    draw = ImageDraw.Draw(picture)
    heading = " ".join(_some_words(rng, 3)).title()
    line_height = 14
    draw.text((8, 6), heading, font=ImageFont.load_default(size=16), fill=(20, 20, 24))
    for y in range(30, height - line_height, line_height):
        line = " ".join(_some_words(rng, max(2, width // 48)))
        draw.text((8, y), line, font=ImageFont.load_default(size=10), fill=(40, 40, 44))
    return Page(
        picture=picture,
        prompt="What is the heading of this page?",
        thinking="The largest line stands at the top of the page. It is the heading.",
        answer=heading,
    )


def draw_chart(seed: int, size: tuple[int, int]) -> Page:
    """A bar chart by month; the question is which bar is the highest."""
    rng = np.random.default_rng([12, seed])
    width, height = size
    picture = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    bars = int(rng.integers(3, 7))
    values = rng.permutation(np.arange(2, 20))[:bars]
    floor, cell = height - 20, (width - 16) / bars
    fill = COLOURS[list(COLOURS)[int(rng.integers(0, 6))]]
    font = ImageFont.load_default(size=11)
    for k, value in enumerate(values):
        left, top = 12 + k * cell, floor - (floor - 24) * value / 20
        draw.rectangle((left, top, left + 0.7 * cell, floor), fill=fill, outline=(60, 60, 60))
        draw.text((left, floor + 3), _MONTHS[k], font=font, fill=(0, 0, 0))
        draw.text((left, top - 14), str(value), font=font, fill=(0, 0, 0))
    draw.line((8, floor, width - 4, floor), fill=(0, 0, 0))
    best = int(values.argmax())
    told = ", ".join(f"{_MONTHS[k]}: {value}" for k, value in enumerate(values))
    return Page(
        picture=picture,
        prompt="Which month has the highest bar?",
        thinking=f"{told}. The largest is {values[best]}, for {_MONTHS[best]}.",
        answer=_MONTHS[best],
    )


def tell_sum(seed: int) -> Page:
    """Prices that are added up step by step; there is no picture."""
    rng = np.random.default_rng([13, seed])
    counts, prices = rng.integers(2, 9, 3), rng.integers(2, 30, 3)
    things = [_WORDS[int(i)] for i in rng.permutation(len(_WORDS))[:3]]
    parts, total, steps = [], 0, []
    for count, price, thing in zip(counts.tolist(), prices.tolist(), things, strict=True):
        parts.append(f"{count} {thing} at {price}")
        steps.append(f"{count} times {price} is {count * price}, and {total} plus that is {total + count * price}.")
        total += count * price
    return Page(
        picture=None,
        prompt=f"I buy {', '.join(parts)}. What do I pay?",
        thinking="First one thing after the other. " + " ".join(steps) + f" So the total is {total}.",
        answer=str(total),
    )


def _some_words(rng: np.random.Generator, count: int) -> list[str]:
    return [_WORDS[int(i)] for i in rng.integers(0, len(_WORDS), count)]
