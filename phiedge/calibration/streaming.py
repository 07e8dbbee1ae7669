"""Calibration of a whole decoder, one layer in memory at a time.

    samples -> rows.0 -> layer 0 -> rows.1, layer.0 -> layer 1 -> ...

Each layer leaves its artefact, and the rows that enter the next. What was killed goes on with the first layer that has
no artefact; artefacts of other weights, samples or settings are thrown away. Held-out samples also go through the
original layers, so that the report can say how far apart the two models have come.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch

from phiedge.calibration.artefact import HeadArtefact, LayerArtefact
from phiedge.calibration.decoder_layer import TensorReader
from phiedge.calibration.divergence import Divergence
from phiedge.calibration.head_run import calibrate_head
from phiedge.calibration.layer_run import LayerRun
from phiedge.calibration.methods import Settings
from phiedge.calibration.passing_rows import PassingRows
from phiedge.calibration.samples import Sample, digest_of, row_roles
from phiedge.progress import Progress, silent

_ALGORITHM = "4"  # changes with whatever changes the codes
_KEY_FILE, _HEAD_FILE = "calibration.json", "head.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A calibrated decoder: the artefacts of its `layers` are on the disk, and read when they are needed."""

    directory: Path
    key: str
    layers: int
    has_head: bool
    divergence: Mapping[str, Divergence]

    def layer(self, index: int) -> LayerArtefact:
        """The artefact of one layer."""
        return LayerArtefact.load(artefact_path(self.directory, index), self.key)

    def head(self) -> HeadArtefact:
        """The artefact of the head, which must have one."""
        assert self.has_head
        return HeadArtefact.load(self.directory / _HEAD_FILE, self.key)


@torch.no_grad()
def calibrate(
    source: TensorReader,
    samples: Sequence[Sample],
    settings: Settings,
    directory: Path,
    *,
    fingerprint: Mapping[str, str],
    compute: torch.dtype = torch.float32,
    progress: Progress = silent,
) -> Calibration:
    """Calibrate the decoder of `source` in `directory`, or go on where an earlier call with the same input ended.

    `fingerprint` is what the weights are known by; `compute` the type of the products. Raises `InputError` for too few
    samples, `TensorError` and `ExportError` for numbers that are not finite.
    """
    roles = row_roles(samples)
    key = calibration_key(fingerprint, samples, asdict(settings), compute, algorithm=_ALGORITHM)
    layers = source.config.num_layers
    rows = PassingRows(source, samples, roles, directory, compute)

    def run(index: int) -> LayerArtefact:
        layer = LayerRun(
            source=source,
            index=index,
            samples=samples,
            roles=roles,
            settings=settings,
            compute=compute,
            directory=directory,
            progress=progress,
        )
        return layer.run(rows.before(index), rows.unfinished())

    run_layers(rows, directory, key, layers, run, progress)
    if settings.head_bits == 4 and not (directory / _HEAD_FILE).exists():
        head = calibrate_head(source, samples, roles, rows.before(layers), settings, progress)
        head.save(directory / _HEAD_FILE, key)
    return Calibration(
        directory=directory,
        key=key,
        layers=layers,
        has_head=settings.head_bits == 4,
        divergence=rows.divergence(),
    )


class LayerResult(Protocol):
    """What one layer leaves."""

    def with_error(self, relative_error: float) -> "LayerResult": ...

    def save(self, path: Path, key: str) -> None: ...


def run_layers(
    rows: PassingRows,
    directory: Path,
    key: str,
    layers: int,
    run: Callable[[int], LayerResult],
    progress: Progress,
) -> None:
    """Run every layer that has no artefact of `key` in `directory`; `run` reads the rows before it and writes on."""
    _take_up(directory, key)
    done = 0
    while done < layers and artefact_path(directory, done).exists():
        done += 1
    if not rows.reach(done):
        done = 0
        rows.begin(progress)
    for index in range(done, layers):
        left = run(index)
        left.with_error(rows.advance(index)).save(artefact_path(directory, index), key)
        rows.forget(index)


def artefact_path(directory: Path, layer: int) -> Path:
    """Where the artefact of a layer lies."""
    return directory / f"layer-{layer:03d}.safetensors"


def _take_up(directory: Path, key: str) -> None:
    """Make the directory, empty but for what the same calibration left."""
    directory.mkdir(parents=True, exist_ok=True)
    note = directory / _KEY_FILE
    if not note.exists() or note.read_text(encoding="utf-8") != key:
        for path in directory.iterdir():
            path.unlink()
        note.write_text(key, encoding="utf-8")


def calibration_key(
    fingerprint: Mapping[str, str],
    samples: Sequence[Sample],
    settings: Mapping[str, object],
    compute: torch.dtype,
    *,
    algorithm: str,
) -> str:
    """What a calibration's artefacts depend on, as a hash."""
    told = [algorithm, torch.__version__, dict(fingerprint), digest_of(samples), dict(settings), str(compute)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
