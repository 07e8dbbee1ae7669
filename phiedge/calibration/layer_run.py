"""One decoder layer: its linears are quantised in the order of the forward pass, each on the inputs that it will have.

Those are what the linears before it give when they are quantised already.

The order and what stands between them are in `layer_steps.py`; here memory holds one weight and one Gram matrix more.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from phiedge.calibration.artefact import LayerArtefact, LayerReport
from phiedge.calibration.decoder_layer import (
    LINEARS,
    Cached,
    Linear,
    TensorReader,
    linear_name,
    norm_names,
    read_tensor,
)
from phiedge.calibration.folding import PAIRS, Folding
from phiedge.calibration.grouped import Grouped
from phiedge.calibration.kv_scales import CacheStatistics
from phiedge.calibration.layer_steps import LayerSteps, Step
from phiedge.calibration.linear_report import report_on
from phiedge.calibration.methods import Chosen, Settings, choose_codes
from phiedge.calibration.row_file import RowFile
from phiedge.calibration.samples import Sample
from phiedge.calibration.statistics import InputStatistics, RowRoles
from phiedge.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRun:
    """The layer `index` of `source`, for `samples` with their `roles`; files go to `directory`.

    `compute` is the type of the products: the checkpoint's own, or float32.
    """

    source: TensorReader
    index: int
    samples: Sequence[Sample]
    roles: Sequence[RowRoles]
    settings: Settings
    compute: torch.dtype
    directory: Path
    progress: Progress

    def run(self, before: RowFile, after: RowFile) -> LayerArtefact:
        """Read `before`, the rows that enter the layer, and write `after`, those that leave it quantised.

        The report's `relative_error` is left for who knows the original's rows.
        """
        begun = time.perf_counter()
        norms = tuple(read_tensor(self.source, name) for name in norm_names(self.index))
        chosen: dict[Linear, Chosen] = {}
        reports = []
        layer, cache = self._layer(), CacheStatistics(layer=self.index)
        for step in layer.steps((norms[0], norms[1]), before, after, cached=partial(self._looking, cache)):
            weight = read_tensor(self.source, linear_name(self.index, step.linear))
            inputs = self._statistics(step)
            codes = choose_codes(weight, inputs, self.settings, Folding(config=self.source.config).pool(step.linear))
            chosen[step.linear] = codes
            reports.append(report_on(step.linear, codes, inputs))
            del weight, inputs
            effective = codes.quantised.dequantise().div_(codes.smoothing.factors).to(self.compute)
            for i in self._each(f"layer {self.index}: {step.linear} quantised"):
                step.take(i, functional.linear(step.inputs(i), effective))
        layer.remove()
        values = self.source.config.num_kv_heads * self.source.config.head_dim
        cache.fold(Folding(config=self.source.config).upstream_rows("o", chosen["o"].smoothing.factors)[-values:])
        return LayerArtefact(
            norms=(norms[0] / chosen["qkv"].smoothing.factors, norms[1] / chosen["gate_up"].smoothing.factors),
            weights={linear: codes.weight() for linear, codes in self._folded(chosen).items()},
            factors={linear: chosen[linear].smoothing.factors for linear in LINEARS},
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

    def _layer(self) -> LayerSteps:
        return LayerSteps(
            config=self.source.config,
            lengths=[sample.rows for sample in self.samples],
            compute=self.compute,
            directory=self.directory,
        )

    def _statistics(self, step: Step) -> InputStatistics:
        inputs = InputStatistics(
            told=f"layer {self.index}, {step.linear}",
            columns=self._layer().columns(step.linear),
            group_size=self.settings.group_size,
            with_gram=self.settings.needs_gram,
        )
        for i in self._each(f"layer {self.index}: inputs of {step.linear}"):
            inputs.add(step.inputs(i), self.roles[i], sample=self.samples[i].name)
        return inputs

    def _folded(self, chosen: dict[Linear, Chosen]) -> dict[Linear, Grouped]:
        """The codes with what `o` and `down` need of the rows before them, which goes into scales alone."""
        folding = Folding(config=self.source.config)
        codes: dict[Linear, Grouped] = {linear: found.quantised for linear, found in chosen.items()}
        for upstream, linear in PAIRS:
            if chosen[linear].smoothing.alpha:
                rows = folding.upstream_rows(linear, chosen[linear].smoothing.factors)
                codes[upstream] = codes[upstream].with_rows_times(rows)
        return codes

    def _each(self, told: str) -> Iterator[int]:
        with self.progress.task(told, len(self.samples), "samples") as advance:
            for i in range(len(self.samples)):
                yield i
                advance(1)
