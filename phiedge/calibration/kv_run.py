"""The scales of every layer's cache, from one pass over the layers: for weights that are not calibrated themselves.

Where they are, the scales fall off on the way (`layer_run.py`). Here each layer computes as it is in the checkpoint,
and hands its rows to the next through a file. What was killed goes on with the first layer that has no scales.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from phiedge.calibration.samples import Sample, digest_of, row_roles
from phiedge.calibration.statistics import RowRoles
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
    run = _Run(
        source=source,
        samples=samples,
        roles=row_roles(samples),
        directory=directory,
        compute=compute,
        progress=progress,
    )
    run.take_up(_key(fingerprint, samples, compute))
    layers = source.config.num_layers
    done = 0
    while done < layers and run.scales_path(done).exists():
        done += 1
    if done < layers and not run.rows(done).is_whole:
        done = 0
        write_first_rows(source, samples, run.rows(None), progress)
        run.rows(None).renamed(run.rows(0).path)
    for index in range(done, layers):
        run.layer(index, last=index == layers - 1)
    stored = [json.loads(run.scales_path(index).read_bytes()) for index in range(layers)]
    return tuple(LayerCacheScales.from_json(layer) for layer in stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    source: TensorReader
    samples: Sequence[Sample]
    roles: Sequence[RowRoles]
    directory: Path
    compute: torch.dtype
    progress: Progress

    def take_up(self, key: str) -> None:
        """Make the directory, empty but for what the same run left."""
        self.directory.mkdir(parents=True, exist_ok=True)
        note = self.directory / _KEY_FILE
        if not note.exists() or note.read_text(encoding="utf-8") != key:
            for path in self.directory.iterdir():
                path.unlink()
            note.write_text(key, encoding="utf-8")

    def scales_path(self, layer: int) -> Path:
        return self.directory / f"kv-{layer:03d}.json"

    def rows(self, layer: int | None) -> RowFile:
        """The rows that enter a layer, or where rows are written before they are whole."""
        name = "kv-rows.part" if layer is None else f"kv-rows.{layer}"
        return RowFile(self.directory / name, [s.rows for s in self.samples], self.source.config.hidden_size)

    def layer(self, index: int, *, last: bool) -> None:
        """Run one layer. Behind the last one nothing is wanted but its keys and values."""
        math = LayerMath(config=self.source.config)
        first, second = (read_tensor(self.source, name) for name in norm_names(index))
        linears: tuple[Linear, ...] = ("qkv",) if last else LINEARS
        weights = {linear: read_tensor(self.source, linear_name(index, linear)).to(self.compute) for linear in linears}
        before, after = self.rows(index), self.rows(None)
        seen = CacheStatistics(layer=index)

        def multiply(linear: Linear, x: Tensor) -> Tensor:
            return functional.linear(x.to(self.compute), weights[linear])

        with self.progress.task(f"layer {index}: keys and values", len(self.samples), "samples") as advance:
            for place, sample in enumerate(self.samples):
                look, x = seen.looking(self.roles[place], sample=sample.name), before.read(place)
                if last:
                    math.attended(multiply("qkv", math.normed(x, first)), look)
                else:
                    after.write(place, math.forward(x, (first, second), multiply, look))
                advance(1)
        if not last:
            after.renamed(self.rows(index + 1).path)
        self._keep(index, seen.scales())
        before.path.unlink()

    def _keep(self, index: int, scales: LayerCacheScales) -> None:
        part = self.scales_path(index).with_suffix(".part")
        with part.open("w", encoding="utf-8") as file:
            json.dump(scales.to_json(), file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.scales_path(index))


def _key(fingerprint: Mapping[str, str], samples: Sequence[Sample], compute: torch.dtype) -> str:
    told = [_ALGORITHM, torch.__version__, dict(fingerprint), digest_of(samples), str(compute)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
