"""Calibration of a whole decoder for small integers; how it goes through the layers stands in `streaming.py`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from phiedge.calibration.artefact import HeadArtefact, LayerArtefact, LayerReport, LinearReport
from phiedge.calibration.decoder_layer import LINEARS, Linear, TensorReader
from phiedge.calibration.divergence import Divergence
from phiedge.calibration.folding import PAIRS, Folding
from phiedge.calibration.grouped import Grouped
from phiedge.calibration.head_run import calibrate_head
from phiedge.calibration.kv_scales import CacheStatistics
from phiedge.calibration.layer_run import Norms
from phiedge.calibration.linear_report import report_on
from phiedge.calibration.methods import Chosen, Settings, choose_codes
from phiedge.calibration.run import Run
from phiedge.calibration.samples import Sample
from phiedge.calibration.statistics import InputStatistics
from phiedge.calibration.streaming import artefact_path, run_layers
from phiedge.exporters.config import ModelConfig
from phiedge.progress import Progress, silent

_ALGORITHM = "5"  # changes with whatever changes the codes
_HEAD_FILE = "head.safetensors"


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
    run = Run(source=source, samples=samples, directory=directory, compute=compute, progress=progress)
    key = run.key(_ALGORITHM, fingerprint, asdict(settings))
    rows = run_layers(run, IntegerCoder(settings=settings, config=source.config), key)
    layers = source.config.num_layers
    if settings.head_bits == 4 and not (directory / _HEAD_FILE).exists():
        head = calibrate_head(run, rows.before(layers), settings)
        head.save(directory / _HEAD_FILE, key)
    return Calibration(
        directory=directory,
        key=key,
        layers=layers,
        has_head=settings.head_bits == 4,
        divergence=rows.divergence(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerCoder:
    """Linears as small integers under scales of groups, smoothed where that helps."""

    settings: Settings
    config: ModelConfig

    @property
    def group_size(self) -> int:
        return self.settings.group_size

    @property
    def needs_gram(self) -> bool:
        return self.settings.needs_gram

    def choose(self, linear: Linear, weight: Tensor, inputs: InputStatistics) -> Chosen:
        """The best of the methods asked for."""
        return choose_codes(weight, inputs, self.settings, Folding(config=self.config).pool(linear))

    def report(self, linear: Linear, chosen: Chosen, inputs: InputStatistics) -> LinearReport:
        """The methods, and what each lost."""
        return report_on(linear, chosen, inputs)

    def product(self, chosen: Chosen, run: Run) -> Callable[[Tensor], Tensor]:
        """Inputs stay as they are."""
        effective = chosen.quantised.dequantise().div_(chosen.smoothing.factors).to(run.compute)
        return lambda x: functional.linear(x, effective)

    def artefact(
        self, norms: Norms, chosen: Mapping[Linear, Chosen], cache: CacheStatistics, report: LayerReport
    ) -> LayerArtefact:
        """The factors of smoothing go into what stands before each linear."""
        factors = {linear: chosen[linear].smoothing.factors for linear in LINEARS}
        values = self.config.num_kv_heads * self.config.head_dim
        cache.fold(Folding(config=self.config).upstream_rows("o", factors["o"])[-values:])
        return LayerArtefact(
            norms=(norms[0] / factors["qkv"], norms[1] / factors["gate_up"]),
            weights={linear: codes.weight() for linear, codes in self._folded(chosen).items()},
            factors=factors,
            cache=cache.scales(),
            report=report,
        )

    def _folded(self, chosen: Mapping[Linear, Chosen]) -> dict[Linear, Grouped]:
        """The codes with what `o` and `down` need of the rows before them, which goes into scales alone."""
        folding = Folding(config=self.config)
        codes: dict[Linear, Grouped] = {linear: found.quantised for linear, found in chosen.items()}
        for upstream, linear in PAIRS:
            if chosen[linear].smoothing.alpha:
                rows = folding.upstream_rows(linear, chosen[linear].smoothing.factors)
                codes[upstream] = codes[upstream].with_rows_times(rows)
        return codes
