"""What calibration runs through the model: sequences of tokens and pictures, and what each of their rows counts for."""

import enum
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from phiedge.calibration.statistics import RowRoles
from phiedge.errors import InputError
from phiedge.exporters.values import Float32

VISUAL = -1  # in place of a token's id
VISUAL_SHARE = 0.5  # at most this much of all weight lies on rows of pictures
FEWEST_ROWS = 1024  # below, sums say more about the samples than about the model
_SEARCHED, _HELD = 1024, 2048
_SEED = 5


class Kind(enum.IntEnum):
    """What stands in a row."""

    TEXT = 0
    VISUAL = 1
    THINKING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture's patches [n, 3 p p] and positions [n, C], and the row that its first patch has in the sequence."""

    patches: Float32
    positions: Float32
    first_row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sequence. tokens: int64 [t], `VISUAL` in the rows of pictures; kinds: int8 [t], values of `Kind`.

    `held_out` samples are in no statistics: they judge. `digest` stands for the pictures' pixels; `load` reads them.
    """

    name: str
    tokens: NDArray[np.int64]
    kinds: NDArray[np.int8]
    held_out: bool
    digest: str
    load: Callable[[], Sequence[Picture]]

    def __post_init__(self) -> None:
        assert self.tokens.shape == self.kinds.shape, (self.tokens.shape, self.kinds.shape)
        assert ((self.tokens == VISUAL) == (self.kinds == Kind.VISUAL)).all(), self.name

    @property
    def rows(self) -> int:
        return len(self.tokens)


def digest_of(samples: Sequence[Sample]) -> str:
    """What identifies a set of samples."""
    told = [
        [sample.name, sample.held_out, hashlib.sha256(sample.tokens.tobytes()).hexdigest(), sample.digest]
        for sample in samples
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def row_roles(samples: Sequence[Sample]) -> list[RowRoles]:
    """The weight of every row, and which rows are searched and held. Raises `InputError` for too little to go by.

    All text rows weigh 1; rows of pictures weigh 1 or less, so that they have at most `VISUAL_SHARE` of the sum.
    """
    _check_amount(samples)
    weight = visual_weight(samples)
    by_row = [np.where(sample.kinds == Kind.VISUAL, weight, 1.0).astype(np.float32) for sample in samples]
    searched = _draw([w * (not s.held_out) for s, w in zip(samples, by_row, strict=True)], _SEARCHED)
    held = _draw([w * s.held_out for s, w in zip(samples, by_row, strict=True)], _HELD)
    return [
        RowRoles(
            weights=torch.from_numpy(weights * np.float32(not sample.held_out)),
            searched=torch.from_numpy(searched[place]),
            held=torch.from_numpy(held[place]),
        )
        for place, (sample, weights) in enumerate(zip(samples, by_row, strict=True))
    ]


def visual_weight(samples: Sequence[Sample]) -> float:
    """What a row of a picture weighs beside one of text: 1, or so much less that all have `VISUAL_SHARE` of the sum."""
    text = sum(int((sample.kinds != Kind.VISUAL).sum()) for sample in samples if not sample.held_out)
    visual = sum(int((sample.kinds == Kind.VISUAL).sum()) for sample in samples if not sample.held_out)
    return min(1.0, VISUAL_SHARE / (1 - VISUAL_SHARE) * text / visual) if visual else 1.0


def _check_amount(samples: Sequence[Sample]) -> None:
    calibrating = sum(sample.rows for sample in samples if not sample.held_out)
    held_out = sum(sample.rows for sample in samples if sample.held_out)
    if calibrating < FEWEST_ROWS or not held_out:
        raise InputError(
            f"{len(samples)} samples with {calibrating} rows to calibrate on and {held_out} to judge by are too few; "
            f"at least {FEWEST_ROWS} and 1 are needed",
            remedy="give 64 samples or more, or --calibration builtin",
        )


def _draw(weights: Sequence[NDArray[Any]], count: int) -> list[NDArray[np.int64]]:
    """Indices of `count` rows, or all that have weight, drawn by weight without repetition; always the same."""
    flat = np.concatenate(weights).astype(np.float64)
    count = min(count, int((flat > 0).sum()))
    chosen = np.sort(np.random.default_rng(_SEED).choice(flat.size, count, replace=False, p=flat / flat.sum()))
    bounds = np.cumsum([0, *map(len, weights)])
    return [chosen[(chosen >= first) & (chosen < stop)] - first for first, stop in pairwise(bounds)]
