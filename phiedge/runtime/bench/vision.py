"""A picture of noise, from its pixels to the features of every patch, as a session prepares and encodes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from phiedge.runtime.bench.plan import PictureCase
from phiedge.runtime.bench.spread import repeat
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.merge import PictureRows, RowPlan
from phiedge.runtime.stopwatch import Stopwatch

AT_MOST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionSamples:
    """Milliseconds of every picture."""

    vision_ms: tuple[float, ...]
    preprocess_ms: tuple[float, ...]


def measure_vision(
    model: LoadedModel, *, case: PictureCase, until_ns: int, clock_ns: Callable[[], int]
) -> VisionSamples:
    """As many pictures as are done before the clock shows `until_ns`, at least one; the first is left out of many."""
    pixels = noise(case)
    count = case.grid.tokens
    plan = RowPlan(rows=(PictureRows(start=0, picture=0, count=count, whole=count),))

    def run() -> tuple[float, float]:
        watch = Stopwatch()
        with watch.measure("preprocess"):
            pictures = model.read_pictures([pixels], max_visual_tokens=None)
        model.write_rows(plan, pictures, watch)
        timings = watch.timings(load_ns=0)
        return timings.vision, timings.preprocess

    samples = repeat(run, at_least=1, at_most=1 + AT_MOST, until_ns=until_ns, clock_ns=clock_ns)
    kept = samples[1:] or samples
    return VisionSamples(
        vision_ms=tuple(vision_ms for vision_ms, _ in kept),
        preprocess_ms=tuple(preprocess_ms for _, preprocess_ms in kept),
    )


def noise(case: PictureCase) -> npt.NDArray[Any]:
    """Pixels of that size, `[height, width, 3] uint8`, the same every time."""
    return np.random.default_rng(0).integers(0, 256, (case.height, case.width, 3), dtype=np.uint8)
