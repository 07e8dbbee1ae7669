"""One decoder layer: its linears are coded in the order of the forward pass, each on the inputs that it will have.

Those are what the linears before it give when they are coded already. What codes are, a `Coder` says.

The order and what stands between them are in `layer_steps.py`; here memory holds one weight and one Gram matrix more.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from phiedge.calibration.artefact import LayerReport, LinearReport
from phiedge.calibration.decoder_layer import Cached, Linear, linear_name, norm_names, read_tensor
from phiedge.calibration.kv_scales import CacheStatistics
from phiedge.calibration.layer_steps import LayerSteps, Step
from phiedge.calibration.row_file import RowFile
from phiedge.calibration.run import Run
from phiedge.calibration.statistics import InputStatistics

ChosenT = TypeVar("ChosenT")
LeftT = TypeVar("LeftT")
Left_co = TypeVar("Left_co", covariant=True)
Norms = tuple[Tensor, Tensor]


class Coder(Protocol[ChosenT, Left_co]):
    """What is done with the linears of a layer: `ChosenT` is what becomes of one, `Left_co` the artefact of all."""

    @property
    def group_size(self) -> int:
        """How many columns the inputs' importance is summed for together."""
        ...

    @property
    def needs_gram(self) -> bool:
        """Whether it is summed for all of them, too."""
        ...

    def choose(self, linear: Linear, weight: Tensor, inputs: InputStatistics) -> ChosenT:
        """The codes of `weight: [n, K]` float32; the Gram matrix of `inputs` may be thrown away."""
        ...

    def report(self, linear: Linear, chosen: ChosenT, inputs: InputStatistics) -> LinearReport:
        """What is told of them."""
        ...

    def product(self, chosen: ChosenT, run: Run) -> Callable[[Tensor], Tensor]:
        """What the linear gives for its inputs [t, K] from now on."""
        ...

    def artefact(
        self, norms: Norms, chosen: Mapping[Linear, ChosenT], cache: CacheStatistics, report: LayerReport
    ) -> Left_co:
        """What the layer leaves; `cache` has seen the keys and values that its coded weights give."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRun(Generic[ChosenT, LeftT]):
    """The layer `index` of the decoder that `run` is about."""

    run: Run
    coder: Coder[ChosenT, LeftT]
    index: int

    def code(self, before: RowFile, after: RowFile) -> LeftT:
        """Read `before`, the rows that enter the layer, and write `after`, those that leave it coded.

        The report's `relative_error` is left for who knows the original's rows.
        """
        begun = time.perf_counter()
        run = self.run
        first, second = (read_tensor(run.source, name) for name in norm_names(self.index))
        layer = LayerSteps(config=run.source.config, lengths=run.lengths, compute=run.compute, directory=run.directory)
        chosen: dict[Linear, ChosenT] = {}
        reports = []
        cache = CacheStatistics(layer=self.index)
        for step in layer.steps((first, second), before, after, cached=partial(self._looking, cache)):
            weight = read_tensor(run.source, linear_name(self.index, step.linear))
            inputs = self._statistics(step, layer.columns(step.linear))
            codes = self.coder.choose(step.linear, weight, inputs)
            chosen[step.linear] = codes
            reports.append(self.coder.report(step.linear, codes, inputs))
            del weight, inputs
            product = self.coder.product(codes, run)
            for place in run.each(f"layer {self.index}: {step.linear} quantised"):
                step.take(place, product(step.inputs(place)))
        layer.remove()
        report = LayerReport(
            layer=self.index,
            linears=tuple(reports),
            largest_row=max(float(after.read(place).abs().max()) for place in range(len(run.samples))),
            seconds=round(time.perf_counter() - begun, 1),
        )
        return self.coder.artefact((first, second), chosen, cache, report)

    def _looking(self, cache: CacheStatistics, place: int) -> Cached:
        return cache.looking(self.run.roles[place], sample=self.run.samples[place].name)

    def _statistics(self, step: Step, columns: int) -> InputStatistics:
        inputs = InputStatistics(
            told=f"layer {self.index}, {step.linear}",
            columns=columns,
            group_size=self.coder.group_size,
            with_gram=self.coder.needs_gram,
        )
        for place in self.run.each(f"layer {self.index}: inputs of {step.linear}"):
            inputs.add(step.inputs(place), self.run.roles[place], sample=self.run.samples[place].name)
        return inputs
