from collections.abc import Callable

import numpy as np
import pytest

from phiedge.calibration.samples import VISUAL, Kind, Picture, Sample


@pytest.fixture(scope="session")
def text_samples() -> Callable[..., list[Sample]]:
    """Samples of random tokens, of which every eighth is held out."""

    def make(count: int = 16, rows: int = 80, vocab: int = 256) -> list[Sample]:
        rng = np.random.default_rng(3)
        return [
            Sample(
                name=f"sample {place}",
                tokens=rng.integers(0, vocab, rows),
                kinds=np.full(rows, Kind.TEXT, np.int8),
                held_out=place % 8 == 7,
                digest="",
                load=list,
            )
            for place in range(count)
        ]

    return make


@pytest.fixture(scope="session")
def picture_sample() -> Callable[..., Sample]:
    """A sample with `text` rows before a picture of `visual` rows."""

    def make(name: str, text: int, visual: int, *, held_out: bool = False) -> Sample:
        tokens = np.concatenate([np.zeros(text, np.int64), np.full(visual, VISUAL)])
        kinds = np.concatenate([np.full(text, Kind.TEXT, np.int8), np.full(visual, Kind.VISUAL, np.int8)])

        def load() -> list[Picture]:
            return []

        return Sample(name=name, tokens=tokens, kinds=kinds, held_out=held_out, digest="", load=load)

    return make
