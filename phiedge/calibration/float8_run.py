"""Calibration of a whole decoder for 8-bit floats (E4M3), one layer in memory at a time.

Each linear is calibrated on the inputs that it will have: those that the ones before it give with inputs and weights
rounded already. What was killed goes on with the first layer that has no artefact (`streaming.py`).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from phiedge.calibration.artefact import LayerReport, LinearReport
from phiedge.calibration.decoder_layer import (
    LINEARS,
    Cached,
    Linear,
    TensorReader,
    linear_name,
    norm_names,
    read_tensor,
)
from phiedge.calibration.divergence import Divergence
from phiedge.calibration.eight_bits import rounded
from phiedge.calibration.float8_artefact import Float8LayerArtefact
from phiedge.calibration.float8_linear import Float8Chosen, Float8Settings, WeightScales, choose_float8
from phiedge.calibration.kv_scales import CacheStatistics
from phiedge.calibration.layer_steps import LayerSteps, Step
from phiedge.calibration.linear_report import outlier_columns
from phiedge.calibration.passing_rows import PassingRows
from phiedge.calibration.row_file import RowFile
from phiedge.calibration.samples import Sample, row_roles
from phiedge.calibration.statistics import InputStatistics, RowRoles
from phiedge.calibration.streaming import artefact_path, calibration_key, run_layers
from phiedge.exporters.float8 import Float8Weight
from phiedge.progress import Progress, silent

_ALGORITHM = "float8 1"  # changes with whatever changes the codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Float8Calibration:
    """A calibrated decoder: the artefacts of its `layers` are on the disk, and read when they are needed."""

    directory: Path
    key: str
    layers: int
    divergence: Mapping[str, Divergence]
    weight_scales: WeightScales

    def layer(self, index: int) -> Float8LayerArtefact:
        """The artefact of one layer."""
        return Float8LayerArtefact.load(artefact_path(self.directory, index), self.key)

    def activation_scales(self) -> dict[str, float]:
        """The scale of each linear's input, by the name of its weight in the checkpoint."""
        scales: dict[str, float] = {}
        for index in range(self.layers):
            found = self.layer(index).input_scales()
            scales |= {linear_name(index, linear): found[linear] for linear in LINEARS}
        return scales


@torch.no_grad()
def calibrate_float8(
    source: TensorReader,
    samples: Sequence[Sample],
    settings: Float8Settings,
    directory: Path,
    *,
    fingerprint: Mapping[str, str],
    compute: torch.dtype = torch.float32,
    progress: Progress = silent,
) -> Float8Calibration:
    """Calibrate the decoder of `source` in `directory`, or go on where an earlier call with the same input ended.

    For the arguments and errors see `phiedge.calibration.streaming.calibrate`.
    """
    roles = row_roles(samples)
    key = calibration_key(fingerprint, samples, asdict(settings), compute, algorithm=_ALGORITHM)
    layers = source.config.num_layers
    rows = PassingRows(source, samples, roles, directory, compute)

    def run(index: int) -> Float8LayerArtefact:
        layer = _Float8Layer(
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
    return Float8Calibration(
        directory=directory,
        key=key,
        layers=layers,
        divergence=rows.divergence(),
        weight_scales=settings.weight_scales,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Float8Layer:
    """The layer `index` of `source`, for `samples` with their `roles`; files go to `directory`."""

    source: TensorReader
    index: int
    samples: Sequence[Sample]
    roles: Sequence[RowRoles]
    settings: Float8Settings
    compute: torch.dtype
    directory: Path
    progress: Progress

    def run(self, before: RowFile, after: RowFile) -> Float8LayerArtefact:
        """Read `before`, the rows that enter the layer, and write `after`, those that leave it rounded."""
        begun = time.perf_counter()
        norms = tuple(read_tensor(self.source, name) for name in norm_names(self.index))
        lengths = [sample.rows for sample in self.samples]
        layer = LayerSteps(config=self.source.config, lengths=lengths, compute=self.compute, directory=self.directory)
        weights: dict[Linear, Float8Weight] = {}
        reports = []
        cache = CacheStatistics(layer=self.index)
        for step in layer.steps((norms[0], norms[1]), before, after, cached=partial(self._looking, cache)):
            weight = read_tensor(self.source, linear_name(self.index, step.linear))
            inputs = self._statistics(step, layer.columns(step.linear))
            chosen = choose_float8(weight, inputs, self.settings)
            reports.append(_report(step.linear, chosen, inputs))
            weights[step.linear] = chosen.codes.weight()
            del weight, inputs
            self._pass_on(step, chosen)
        layer.remove()
        return Float8LayerArtefact(
            weights=weights,
            cache=cache.scales(),
            report=LayerReport(
                layer=self.index,
                linears=tuple(reports),
                largest_row=max(float(after.read(i).abs().max()) for i in range(len(self.samples))),
                seconds=round(time.perf_counter() - begun, 1),
            ),
        )

    def _looking(self, cache: CacheStatistics, i: int) -> Cached:
        return cache.looking(self.roles[i], sample=self.samples[i].name)

    def _statistics(self, step: Step, columns: int) -> InputStatistics:
        inputs = InputStatistics(
            told=f"layer {self.index}, {step.linear}",
            columns=columns,
            group_size=1,
            with_gram=self.settings.needs_gram,
        )
        for i in self._each(f"layer {self.index}: inputs of {step.linear}"):
            inputs.add(step.inputs(i), self.roles[i], sample=self.samples[i].name)
        return inputs

    def _pass_on(self, step: Step, chosen: Float8Chosen) -> None:
        weight, scale = chosen.codes.dequantise().to(self.compute), chosen.input_scale.scale
        for i in self._each(f"layer {self.index}: {step.linear} in float8"):
            step.take(i, functional.linear(rounded(step.inputs(i), scale, "float8").to(self.compute), weight))

    def _each(self, told: str) -> Iterator[int]:
        with self.progress.task(told, len(self.samples), "samples") as advance:
            for i in range(len(self.samples)):
                yield i
                advance(1)


def _report(linear: Linear, chosen: Float8Chosen, inputs: InputStatistics) -> LinearReport:
    return LinearReport(
        linear=linear,
        method=chosen.method,
        alpha=0.0,
        errors={str(method): error for method, error in chosen.errors.items()},
        largest_input=float(inputs.largest.max()),
        outliers=outlier_columns(inputs),
        input_scale=chosen.input_scale,
    )
