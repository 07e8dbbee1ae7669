"""Calibration of a whole decoder, one layer in memory at a time.

    samples -> rows.0 -> layer 0 -> rows.1, layer.0 -> layer 1 -> ...

Each layer leaves its artefact, and the rows that enter the next. What was killed goes on with the first layer that has
no artefact; artefacts of other weights, samples or settings are thrown away. Held-out samples also go through the
original layers, so that the report can say how far apart the two models have come.

For what becomes of the linears see `int4_run.py` and `float8_run.py`.
"""

from pathlib import Path
from typing import Protocol, TypeVar

import torch

from phiedge.calibration.layer_run import Coder, LayerRun
from phiedge.calibration.passing_rows import PassingRows
from phiedge.calibration.run import Run

_KEY_FILE = "calibration.json"
ChosenT = TypeVar("ChosenT")


class LayerResult(Protocol):
    """What one layer leaves."""

    def with_error(self, relative_error: float) -> "LayerResult": ...

    def save(self, path: Path, key: str) -> None: ...


@torch.no_grad()
def run_layers(run: Run, coder: Coder[ChosenT, LayerResult], key: str) -> PassingRows:
    """Run every layer that has no artefact of `key` in the directory of `run`; the rows are behind the last one then.

    Raises `TensorError` and `ExportError` for numbers that are not finite.
    """
    run.take_up(_KEY_FILE, key)
    rows, layers = PassingRows(run), run.source.config.num_layers
    done = 0
    while done < layers and artefact_path(run.directory, done).exists():
        done += 1
    if not rows.reach(done):
        done = 0
        rows.begin()
    for index in range(done, layers):
        left = LayerRun(run=run, coder=coder, index=index).code(rows.before(index), rows.unfinished())
        left.with_error(rows.advance(index)).save(artefact_path(run.directory, index), key)
        rows.forget(index)
    return rows


def artefact_path(directory: Path, layer: int) -> Path:
    """Where the artefact of a layer lies."""
    return directory / f"layer-{layer:03d}.safetensors"
