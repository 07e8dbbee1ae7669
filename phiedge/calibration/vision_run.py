"""Calibration of the vision encoder and the projector for 8 bits, one layer in memory at a time.

    pictures -> rows.0 -> layer 0 -> rows.1, stage.0 -> ... -> projector -> features

Each product is calibrated on the inputs that it will have: those that the ones before it give with inputs and weights
rounded already. What was killed goes on with the first stage that has no artefact. Held-out pictures also go through
the original encoder, so that the report can say how far apart the two have come.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from phiedge.calibration.decoder_layer import TensorReader, read_tensor
from phiedge.calibration.linear_report import outlier_columns
from phiedge.calibration.row_file import RowFile
from phiedge.calibration.samples import Picture, Sample, digest_of
from phiedge.calibration.statistics import InputStatistics, RowRoles
from phiedge.calibration.vision_artefact import VisionLinearReport, VisionStageArtefact, VisionStageReport
from phiedge.calibration.vision_layer import VisionStage, VisionStep, vision_steps
from phiedge.calibration.vision_linear import VisionChosen, VisionCodes, choose, rounded_input
from phiedge.errors import InputError
from phiedge.exporters.precision import VisionLinears
from phiedge.exporters.tensors import TOWER_PREFIX
from phiedge.progress import Progress, silent

_ALGORITHM = "vision 1"  # changes with whatever changes the codes
_KEY_FILE = "vision.json"
_SEARCHED, _HELD = 1024, 2048  # rows, of all pictures together
_SEED = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionCalibration:
    """A calibrated encoder: the artefacts of its stages, the projector's last, are on the disk."""

    directory: Path
    key: str
    form: VisionLinears
    stages: int
    pictures: int
    held_out: int
    rows: int

    def stage(self, place: int) -> VisionStageArtefact:
        """The artefact of one stage."""
        return VisionStageArtefact.load(_artefact_path(self.directory, place), self.key, self.form)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """One picture that calibration looks at, of `rows` patches."""

    sample: Sample
    place: int  # among the pictures of its sample
    rows: int

    def load(self) -> Picture:
        return self.sample.load()[self.place]


@torch.no_grad()
def calibrate_vision(
    source: TensorReader,
    samples: Sequence[Sample],
    form: VisionLinears,
    directory: Path,
    *,
    fingerprint: Mapping[str, str],
    progress: Progress = silent,
) -> VisionCalibration:
    """Calibrate vision encoder and projector of `source` in `directory`, or go on where an earlier call ended.

    `fingerprint` is what the weights are known by. Raises `InputError` for samples without pictures to calibrate on or
    to judge by, `TensorError` and `ExportError` for numbers that are not finite.
    """
    shown = _pictures(samples)
    key = _key(fingerprint, samples, form)
    run = _Run(
        source=source, shown=shown, roles=_roles(shown), form=form, directory=directory, key=key, progress=progress
    )
    stages = source.config.vision_layers_used + 1
    run.all_stages(stages)
    return VisionCalibration(
        directory=directory,
        key=key,
        form=form,
        stages=stages,
        pictures=sum(not one.sample.held_out for one in shown),
        held_out=sum(one.sample.held_out for one in shown),
        rows=sum(one.rows for one in shown if not one.sample.held_out),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    source: TensorReader
    shown: Sequence[_Shown]
    roles: Sequence[RowRoles]
    form: VisionLinears
    directory: Path
    key: str
    progress: Progress

    def all_stages(self, stages: int) -> None:
        """Every stage that has no artefact."""
        _take_up(self.directory, self.key)
        done = 0
        while done < stages and _artefact_path(self.directory, done).exists():
            done += 1
        if done < stages and not (self._rows(done).is_whole and self._original(done).is_whole):
            done = 0
            self._begin()
        for place in range(done, stages):
            self._stage(place)

    def _begin(self) -> None:
        """Patches to the rows that enter the first layer; this product stays as it is."""
        name = f"{TOWER_PREFIX}embeddings.patch_embedding"
        weight, bias = (read_tensor(self.source, f"{name}.{part}") for part in ("weight", "bias"))
        rows, original = self._rows(0), self._original(0)
        for i in self._each("look at the pictures"):
            picture = self.shown[i].load()
            x = functional.linear(torch.from_numpy(picture.patches), weight, bias)
            rows.write(i, x + torch.from_numpy(picture.positions))
        for index, i in enumerate(self._held()):
            original.write(index, rows.read(i))

    def _stage(self, place: int) -> None:
        stage = VisionStage.read(self.source, place)
        before, after = self._rows(place), self._rows(place + 1, part=True)
        codes: dict[str, VisionCodes] = {}
        reports = []
        for step in vision_steps(stage, [one.rows for one in self.shown], self.directory, before, after):
            weight = stage.weight(self.source, step.linear)
            inputs = self._statistics(stage, step)
            chosen = choose(weight, inputs, self.form)
            reports.append(_report(step.linear, chosen, inputs))
            codes[step.linear] = chosen.codes
            del weight, inputs
            self._pass_on(stage, step, chosen)
        error = self._original_beside(stage, place, after)
        after.renamed(self._rows(place + 1).path)
        report = VisionStageReport(stage=stage.told, linears=tuple(reports), relative_error=error)
        artefact = VisionStageArtefact(form=self.form, codes=codes, report=report)
        artefact.save(_artefact_path(self.directory, place), self.key)
        for file in (before, self._original(place)):
            file.path.unlink(missing_ok=True)

    def _statistics(self, stage: VisionStage, step: VisionStep) -> InputStatistics:
        told = f"{stage.told}, {step.linear}"
        inputs = InputStatistics(told=told, columns=stage.columns(step.linear), group_size=1, with_gram=False)
        for i in self._each(f"{stage.told}: inputs of {step.linear}"):
            inputs.add(step.inputs(i), self.roles[i], sample=self.shown[i].sample.name)
        return inputs

    def _pass_on(self, stage: VisionStage, step: VisionStep, chosen: VisionChosen) -> None:
        weight, bias = chosen.codes.dequantise(), stage.bias(step.linear)
        scale = chosen.input_scale.scale
        for i in self._each(f"{stage.told}: {step.linear} in {self.form}"):
            step.take(i, functional.linear(rounded_input(step.inputs(i), scale, self.form), weight, bias))

    def _original_beside(self, stage: VisionStage, place: int, after: RowFile) -> float:
        """Bring the original's rows as far, and return |rounded - original|^2 / |original|^2."""
        weights = {linear: stage.weight(self.source, linear) for linear in stage.linears}

        def multiply(linear: str, x: Tensor) -> Tensor:
            return functional.linear(x, weights[linear], stage.bias(linear))

        before, part = self._original(place), self._original(place + 1, part=True)
        error = size = 0.0
        for index, i in enumerate(self._held()):
            rows = stage.forward(before.read(index), multiply)
            part.write(index, rows)
            error += float((after.read(i) - rows).square().sum())
            size += float(rows.square().sum())
        part.renamed(self._original(place + 1).path)
        return error / max(size, 1e-30)

    def _rows(self, place: int, *, part: bool = False) -> RowFile:
        """The rows of all pictures that enter a stage."""
        return self._file("rows", place, [one.rows for one in self.shown], part=part)

    def _original(self, place: int, *, part: bool = False) -> RowFile:
        """Those of held-out pictures in the original encoder."""
        return self._file("original", place, [self.shown[i].rows for i in self._held()], part=part)

    def _file(self, name: str, place: int, lengths: Sequence[int], *, part: bool) -> RowFile:
        config = self.source.config
        width = config.hidden_size if place > config.vision_layers_used else config.vision_hidden_size
        return RowFile(self.directory / f"{name}.{'part' if part else place}", lengths, width)

    def _held(self) -> list[int]:
        return [i for i, one in enumerate(self.shown) if one.sample.held_out]

    def _each(self, told: str) -> Iterator[int]:
        with self.progress.task(told, len(self.shown), "pictures") as advance:
            for i in range(len(self.shown)):
                yield i
                advance(1)


def _pictures(samples: Sequence[Sample]) -> list[_Shown]:
    shown = [
        _Shown(sample=sample, place=place, rows=len(picture.patches))
        for sample in samples
        for place, picture in enumerate(sample.load())
    ]
    seen, held = (sum(one.sample.held_out == which for one in shown) for which in (False, True))
    if not seen or not held:
        raise InputError(
            f"{len(samples)} samples have {seen} pictures to calibrate vision on and {held} to judge it by; at least 1 "
            "of each is needed",
            remedy="give 64 samples with pictures or more, or --calibration builtin",
        )
    return shown


def _roles(shown: Sequence[_Shown]) -> list[RowRoles]:
    """All rows of a picture count alike; some stand for all where many things are tried, and some judge."""
    searched = _draw(shown, _SEARCHED, held_out=False)
    held = _draw(shown, _HELD, held_out=True)
    return [
        RowRoles(
            weights=torch.full((one.rows,), float(not one.sample.held_out)),
            searched=torch.from_numpy(searched[i]),
            held=torch.from_numpy(held[i]),
        )
        for i, one in enumerate(shown)
    ]


def _draw(shown: Sequence[_Shown], count: int, *, held_out: bool) -> list["np.ndarray[tuple[int], np.dtype[np.int64]]"]:
    """The indices of `count` rows in their pictures, or of all that there are; always the same."""
    starts = np.cumsum([0, *(one.rows if one.sample.held_out == held_out else 0 for one in shown)])
    total = int(starts[-1])
    drawn = np.sort(np.random.default_rng(_SEED).choice(total, min(count, total), replace=False))
    return [drawn[(drawn >= first) & (drawn < stop)] - first for first, stop in pairwise(starts)]


def _report(linear: str, chosen: VisionChosen, inputs: InputStatistics) -> VisionLinearReport:
    return VisionLinearReport(
        linear=linear,
        method=chosen.method,
        errors=chosen.errors,
        largest_input=float(inputs.largest.max()),
        outliers=outlier_columns(inputs),
        input_scale=chosen.input_scale,
    )


def _artefact_path(directory: Path, place: int) -> Path:
    return directory / f"vision-{place:03d}.safetensors"


def _take_up(directory: Path, key: str) -> None:
    """Make the directory, empty but for what the same calibration left."""
    directory.mkdir(parents=True, exist_ok=True)
    note = directory / _KEY_FILE
    if not note.exists() or note.read_text(encoding="utf-8") != key:
        for path in directory.iterdir():
            path.unlink()
        note.write_text(key, encoding="utf-8")


def _key(fingerprint: Mapping[str, str], samples: Sequence[Sample], form: VisionLinears) -> str:
    told = [_ALGORITHM, torch.__version__, dict(fingerprint), digest_of(samples), form]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
