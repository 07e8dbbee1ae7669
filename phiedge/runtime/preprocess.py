"""From pixels to patches, bit for bit as the publisher's image processor does it.

A picture is resized once, to a whole number of patches that is near its own size and within the budget of visual
tokens, and cut into rows. Nothing is cropped or padded; the aspect ratio is kept only to within a patch. What is not
done here is the reading of files (`images.py`) and the embedding of positions (`positions.py`).

Source: `Siglip2ImageProcessorNoUpscale` of the publisher, commit 1190d408.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from phiedge.bundle import ModelFacts
from phiedge.runtime.images import Pixels

CHANNELS = 3
_SCALE_LOW, _SCALE_HIGH, _SCALE_STEP = 1e-6, 100.0, 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchBudget:
    """How many patches a picture may become: one smaller than `min_patches` is enlarged, none exceeds `max_patches`.

    `cap` is the caller's own, lower limit.
    """

    patch_size: int
    min_patches: int
    max_patches: int
    cap: int | None = None

    def __post_init__(self) -> None:
        assert self.patch_size >= 1
        assert 1 <= self.min_patches <= self.max_patches
        assert self.cap is None or self.cap >= 1

    @staticmethod
    def from_facts(facts: ModelFacts, *, cap: int | None = None) -> "PatchBudget":
        """The model's own budget, with the caller's `cap` if there is one."""
        return PatchBudget(
            patch_size=facts.patch_size,
            min_patches=facts.min_num_patches,
            max_patches=facts.max_num_patches,
            cap=cap,
        )

    def target(self, width: int, height: int) -> int:
        """The number of patches that a picture of this size should approach from below."""
        natural = max((width // self.patch_size) * (height // self.patch_size), 1)
        wanted = min(max(natural, self.min_patches), self.max_patches)
        return wanted if self.cap is None else min(wanted, self.cap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Rows and columns of patches; one visual token each."""

    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture at the size that the model sees. `pixels: [rows * patch_size, columns * patch_size, 3] uint8`."""

    pixels: Pixels
    grid: Grid


def choose_grid(width: int, height: int, budget: PatchBudget) -> Grid:
    """The grid of patches for a picture of `width` x `height` pixels.

    The scale is found by bisection in float64 in the publisher's order of operations: other ways to the same scale
    differ in ties, and about one size in eight gets a grid that differs from plain division.
    """
    patch, target = budget.patch_size, budget.target(width, height)
    low, high = _SCALE_LOW, _SCALE_HIGH
    while (high - low) >= _SCALE_STEP:
        scale = (low + high) / 2
        rows, columns = _scaled(height, scale, patch), _scaled(width, scale, patch)
        if (rows / patch) * (columns / patch) <= target:
            low = scale
        else:
            high = scale
    return Grid(rows=_scaled(height, low, patch) // patch, columns=_scaled(width, low, patch) // patch)


def _scaled(size: int, scale: float, patch: int) -> int:
    return max(patch, math.ceil(size * scale / patch) * patch)


def fit_picture(pixels: Pixels, budget: PatchBudget) -> Picture:
    """Resize `pixels: [h, w, 3] uint8` to its grid. The resize runs at every size, also where it changes nothing."""
    height, width, _ = pixels.shape
    grid = choose_grid(width, height, budget)
    size = (grid.columns * budget.patch_size, grid.rows * budget.patch_size)
    resized = Image.fromarray(pixels).resize(size, resample=Image.Resampling.BILINEAR)
    return Picture(pixels=np.asarray(resized), grid=grid)


class Patchifier:
    """Cuts fitted pictures into rows of normalised values, `[tokens, 3 * patch²]`, row-major, channel fastest."""

    def __init__(self, patch_size: int, dtype: npt.DTypeLike = np.float32) -> None:
        self._patch = patch_size
        self._values = _normalised_values().astype(dtype)

    @property
    def row_length(self) -> int:
        return self._patch * self._patch * CHANNELS

    def write(self, picture: Picture, out: npt.NDArray[Any]) -> None:
        """Write the patches of `picture` into `out: [tokens, row_length]`, which has the dtype of this patchifier."""
        rows, columns, patch = picture.grid.rows, picture.grid.columns, self._patch
        assert out.shape == (picture.grid.tokens, self.row_length)
        assert out.dtype == self._values.dtype
        blocks = picture.pixels.reshape(rows, patch, columns, patch, CHANNELS).swapaxes(1, 2)
        np.take(self._values, blocks.reshape(out.shape), out=out, mode="clip")


def _normalised_values() -> npt.NDArray[np.float32]:
    """What each of the 256 byte values becomes: scaled by 1/255 in float64, then (x - 0.5) / 0.5 in float32."""
    scaled = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
    half = np.float32(0.5)
    return (scaled - half) / half
