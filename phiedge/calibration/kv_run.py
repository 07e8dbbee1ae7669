"""The scales of every layer's cache, from one pass over the layers: for weights that are not calibrated themselves.

Where they are, the scales fall off on the way (`layer_run.py`). Here each layer computes as it is in the checkpoint,
and hands its rows to the next through a file. What was killed goes on with the first layer that has no scales.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from phiedge.calibration.decoder_layer import (
    LINEARS,
    LayerMath,
    Linear,
    TensorReader,
    linear_name,
    norm_names,
    read_tensor,
)
from phiedge.calibration.first_rows import write_first_rows
from phiedge.calibration.kv_scales import CacheStatistics, LayerCacheScales
from phiedge.calibration.row_file import RowFile
from phiedge.calibration.run import Run
from phiedge.calibration.samples import Sample
from phiedge.progress import Progress, silent

_ALGORITHM = "1"  # changes with whatever changes the scales
_KEY_FILE = "kv-scales.json"


@torch.no_grad()
def find_cache_scales(
    source: TensorReader,
    samples: Sequence[Sample],
    directory: Path,
    *,
    fingerprint: Mapping[str, str],
    compute: torch.dtype = torch.float32,
    progress: Progress = silent,
) -> tuple[LayerCacheScales, ...]:
    """The scales of all layers; rows and what is found wait in `directory`, for a later call with the same input.

    `fingerprint` is what the weights are known by; `compute` the type of the products. Raises `InputError` for too few
    samples, `TensorError` and `ExportError` for numbers that are not finite.
    """
    run = Run(source=source, samples=samples, directory=directory, compute=compute, progress=progress)
    run.take_up(_KEY_FILE, run.key(_ALGORITHM, fingerprint))
    layers = source.config.num_layers
    done = 0
    while done < layers and _scales_path(directory, done).exists():
        done += 1
    if done < layers and not _rows(run, done).is_whole:
        done = 0
        write_first_rows(source, samples, _rows(run, None), progress)
        _rows(run, None).renamed(_rows(run, 0).path)
    for index in range(done, layers):
        _look_at(run, index, last=index == layers - 1)
    stored = [json.loads(_scales_path(directory, index).read_bytes()) for index in range(layers)]
    return tuple(LayerCacheScales.from_json(layer) for layer in stored)


def _scales_path(directory: Path, layer: int) -> Path:
    return directory / f"kv-{layer:03d}.json"


def _rows(run: Run, layer: int | None) -> RowFile:
    """The rows that enter a layer, or where rows are written before they are whole."""
    return run.rows("kv-rows.part" if layer is None else f"kv-rows.{layer}")


def _look_at(run: Run, index: int, *, last: bool) -> None:
    """Run one layer. Behind the last one nothing is wanted but its keys and values."""
    math = LayerMath(config=run.source.config)
    first, second = (read_tensor(run.source, name) for name in norm_names(index))
    linears: tuple[Linear, ...] = ("qkv",) if last else LINEARS
    weights = {linear: read_tensor(run.source, linear_name(index, linear)).to(run.compute) for linear in linears}
    before, after = _rows(run, index), _rows(run, None)
    seen = CacheStatistics(layer=index)

    def multiply(linear: Linear, x: Tensor) -> Tensor:
        return functional.linear(x.to(run.compute), weights[linear])

    for place in run.each(f"layer {index}: keys and values"):
        look, x = seen.looking(run.roles[place], sample=run.samples[place].name), before.read(place)
        if last:
            math.attended(multiply("qkv", math.normed(x, first)), look)
        else:
            after.write(place, math.forward(x, (first, second), multiply, look))
    if not last:
        after.renamed(_rows(run, index + 1).path)
    _keep(_scales_path(run.directory, index), seen.scales())
    before.path.unlink()


def _keep(path: Path, scales: LayerCacheScales) -> None:
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(scales.to_json(), file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
