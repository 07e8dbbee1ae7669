"""One decoder layer: its linears are quantised in the order of the forward pass, each on the inputs that it will have.

Those are what the linears before it give when they are quantised already.

Every sample goes through the layer once. Between two linears its rows wait in a file, so that memory holds one weight,
one Gram matrix and the rows of one sample.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from phiedge.calibration.artefact import LayerArtefact, LayerReport
from phiedge.calibration.decoder_layer import (
    LINEARS,
    LayerMath,
    Linear,
    TensorReader,
    linear_name,
    norm_names,
    read_tensor,
)
from phiedge.calibration.folding import PAIRS, Folding
from phiedge.calibration.grouped import Grouped
from phiedge.calibration.linear_report import report_on
from phiedge.calibration.methods import Chosen, Settings, choose_codes
from phiedge.calibration.row_file import RowFile
from phiedge.calibration.samples import Sample
from phiedge.calibration.statistics import InputStatistics, RowRoles
from phiedge.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One linear: where its inputs [t, K] for a sample come from, and where what it gives goes."""

    linear: Linear
    inputs: Callable[[int], Tensor]
    take: Callable[[int, Tensor], None]


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
        for step in self._steps((norms[0], norms[1]), before, after):
            weight = read_tensor(self.source, linear_name(self.index, step.linear))
            inputs = self._statistics(step)
            codes = choose_codes(weight, inputs, self.settings, Folding(config=self.source.config).pool(step.linear))
            chosen[step.linear] = codes
            reports.append(report_on(step.linear, codes, inputs))
            del weight, inputs
            effective = codes.quantised.dequantise().div_(codes.smoothing.factors).to(self.compute)
            for i in self._each(f"layer {self.index}: {step.linear} quantised"):
                step.take(i, functional.linear(step.inputs(i), effective))
        for name in ("middle", "attended", "gated"):
            (self.directory / name).unlink()
        return LayerArtefact(
            norms=(norms[0] / chosen["qkv"].smoothing.factors, norms[1] / chosen["gate_up"].smoothing.factors),
            weights={linear: codes.weight() for linear, codes in self._folded(chosen).items()},
            factors={linear: chosen[linear].smoothing.factors for linear in LINEARS},
            report=LayerReport(
                layer=self.index,
                linears=tuple(reports),
                largest_row=max(float(after.read(i).abs().max()) for i in range(len(self.samples))),
                seconds=round(time.perf_counter() - begun, 1),
            ),
        )

    def _steps(self, norms: tuple[Tensor, Tensor], before: RowFile, after: RowFile) -> Iterator[_Step]:
        config, math = self.source.config, LayerMath(config=self.source.config)
        lengths = [sample.rows for sample in self.samples]
        attended = RowFile(self.directory / "attended", lengths, config.hidden_size, self.compute)
        middle = RowFile(self.directory / "middle", lengths, config.hidden_size)
        gated = RowFile(self.directory / "gated", lengths, config.intermediate_size, self.compute)
        yield _Step(
            linear="qkv",
            inputs=lambda i: math.normed(before.read(i), norms[0]).to(self.compute),
            take=lambda i, y: attended.write(i, math.attended(y)),
        )
        yield _Step(linear="o", inputs=attended.read, take=lambda i, y: middle.write(i, before.read(i) + y))
        yield _Step(
            linear="gate_up",
            inputs=lambda i: math.normed(middle.read(i), norms[1]).to(self.compute),
            take=lambda i, y: gated.write(i, math.gated(y)),
        )
        yield _Step(linear="down", inputs=gated.read, take=lambda i, y: after.write(i, middle.read(i) + y))

    def _statistics(self, step: _Step) -> InputStatistics:
        columns = self.source.config.intermediate_size if step.linear == "down" else self.source.config.hidden_size
        inputs = InputStatistics(
            told=f"layer {self.index}, {step.linear}",
            columns=columns,
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
