"""Calibration of a whole decoder for 8-bit floats (E4M3); how it goes through the layers stands in `streaming.py`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from phiedge.calibration.artefact import LayerReport, LinearReport
from phiedge.calibration.decoder_layer import LINEARS, Linear, TensorReader, linear_name
from phiedge.calibration.divergence import Divergence
from phiedge.calibration.eight_bits import rounded
from phiedge.calibration.float8_artefact import Float8LayerArtefact
from phiedge.calibration.float8_linear import Float8Chosen, Float8Settings, WeightScales, choose_float8
from phiedge.calibration.kv_scales import CacheStatistics
from phiedge.calibration.layer_run import Norms
from phiedge.calibration.linear_report import outlier_columns
from phiedge.calibration.run import Run
from phiedge.calibration.samples import Sample
from phiedge.calibration.statistics import InputStatistics
from phiedge.calibration.streaming import artefact_path, run_layers
from phiedge.progress import Progress, silent

_ALGORITHM = "float8 2"  # changes with whatever changes the codes


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

    For the arguments and errors see `phiedge.calibration.int4_run.calibrate`.
    """
    run = Run(source=source, samples=samples, directory=directory, compute=compute, progress=progress)
    key = run.key(_ALGORITHM, fingerprint, asdict(settings))
    rows = run_layers(run, Float8Coder(settings=settings), key)
    return Float8Calibration(
        directory=directory,
        key=key,
        layers=source.config.num_layers,
        divergence=rows.divergence(),
        weight_scales=settings.weight_scales,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Float8Coder:
    """Linears whose inputs and weights are both in 8-bit floats."""

    settings: Float8Settings

    @property
    def group_size(self) -> int:
        return 1

    @property
    def needs_gram(self) -> bool:
        return self.settings.needs_gram

    def choose(self, linear: Linear, weight: Tensor, inputs: InputStatistics) -> Float8Chosen:
        """The scale of the input, and the best of the methods asked for."""
        return choose_float8(weight, inputs, self.settings)

    def report(self, linear: Linear, chosen: Float8Chosen, inputs: InputStatistics) -> LinearReport:
        """The methods, what each lost, and the scale of the input."""
        return LinearReport(
            linear=linear,
            method=chosen.method,
            alpha=0.0,
            errors={str(method): error for method, error in chosen.errors.items()},
            largest_input=float(inputs.largest.max()),
            outliers=outlier_columns(inputs),
            input_scale=chosen.input_scale,
        )

    def product(self, chosen: Float8Chosen, run: Run) -> Callable[[Tensor], Tensor]:
        """Inputs are rounded, too."""
        weight, scale = chosen.codes.dequantise().to(run.compute), chosen.input_scale.scale
        return lambda x: functional.linear(rounded(x, scale, "float8").to(run.compute), weight)

    def artefact(
        self, norms: Norms, chosen: Mapping[Linear, Float8Chosen], cache: CacheStatistics, report: LayerReport
    ) -> Float8LayerArtefact:
        """The norms stay as they are."""
        weights = {linear: found.codes.weight() for linear, found in chosen.items()}
        return Float8LayerArtefact(weights=weights, cache=cache.scales(), report=report)
