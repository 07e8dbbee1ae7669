"""What every bundle is asked when it is made: text alone, two shapes of picture, with and without thinking."""

import numpy as np

from phiedge.reference.scenes import draw_scene
from phiedge.runtime.goldens import GoldenQuestion


def golden_questions() -> tuple[GoldenQuestion, ...]:
    """Always the same questions about the same pictures."""
    wide, tall = (
        np.asarray(draw_scene(seed, size=size, place=place).picture)
        for seed, size, place in ((1, (320, 176), "kiosk"), (2, (144, 224), "shelf"))
    )
    return (
        GoldenQuestion(name="text", prompt="How many sides has a box?"),
        GoldenQuestion(name="picture", prompt="How many buttons are there?", pictures=(wide,)),
        GoldenQuestion(name="thinking", prompt="How many products are there?", pictures=(tall,), think="on"),
        GoldenQuestion(name="two pictures", prompt="What has changed?", pictures=(tall, wide), think="auto"),
    )
