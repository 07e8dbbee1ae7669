"""The examples of `--calibration builtin`: always the same, made for the patch budget of a model, nothing downloaded.

Of every eight, five are scenes of kiosks and shelves (one of them answered at length), one a page of text, one a chart
and one a sum without a picture. Their seeds are neither those that the reference model was trained on nor those that it
is scored on. For a model that matters, examples of its own use calibrate better: give a file.
"""

import math
from collections.abc import Iterator

import numpy as np

from phiedge.pipeline.calibration_samples import Example
from phiedge.reference.pages import Page, draw_chart, draw_document, tell_sum
from phiedge.reference.questions import ask
from phiedge.reference.scenes import draw_scene, random_size

BUILTIN_EXAMPLES = 128
_FIRST_SEED = 8 * 10**14
_USUAL_TOKENS = 512  # of a picture for a model that would take more


def builtin_examples(*, patch_size: int, max_patches: int, count: int = BUILTIN_EXAMPLES) -> Iterator[Example]:
    """`count` examples with pictures of up to `max_patches` patches, most of them much smaller."""
    for number in range(count):
        seed = _FIRST_SEED + number
        rng = np.random.default_rng([3, seed])
        size = _size(rng, number, patch_size, max_patches)
        turn = number % 8
        if turn == 5:
            yield _of_page(number, "page", draw_document(seed, size), thinks=number % 16 == 5)
        elif turn == 6:
            yield _of_page(number, "chart", draw_chart(seed, size), thinks=number % 16 == 6)
        elif turn == 3:
            yield _of_page(number, "sum", tell_sum(seed), thinks=True)
        else:
            yield _of_scene(number, seed, size, rng)


def _size(rng: np.random.Generator, number: int, patch_size: int, max_patches: int) -> tuple[int, int]:
    """What scenes are usually like where that suits the model, larger where it takes more; now and then its most."""
    width, height = random_size(rng)
    most = max_patches if number % 32 == 31 else min(max_patches, _USUAL_TOKENS)
    if most <= 256:
        return width, height
    grow = math.sqrt(most * patch_size**2 / (width * height))
    return round(width * grow), round(height * grow)


def _of_scene(number: int, seed: int, size: tuple[int, int], rng: np.random.Generator) -> Example:
    scene = draw_scene(seed, size=size)
    question = ask(scene, rng, 1)[0]
    thinks = question.thinking is not None and number % 2 == 0
    return Example(
        told=f"builtin {number} ({scene.place})",
        prompt=question.prompt,
        images=(np.asarray(scene.picture),),
        thinking=question.thinking if thinks else None,
        answer=question.answer,
        think="auto",
    )


def _of_page(number: int, kind: str, page: Page, *, thinks: bool) -> Example:
    return Example(
        told=f"builtin {number} ({kind})",
        prompt=page.prompt,
        images=() if page.picture is None else (np.asarray(page.picture),),
        thinking=page.thinking if thinks else None,
        answer=page.answer,
        think="auto",
    )
