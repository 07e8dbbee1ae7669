"""The rows of all samples on their way through the layers: those of the quantised model, and of the original.

The original's are kept for held-out samples only. Between two layers both are whole files; a layer writes new ones and
renames them when they are whole.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from phiedge.calibration.decoder_layer import LINEARS, LayerMath, Linear, linear_name, norm_names, read_tensor
from phiedge.calibration.divergence import Divergence, compare_rows
from phiedge.calibration.first_rows import write_first_rows
from phiedge.calibration.head_run import FINAL_NORM, HEAD
from phiedge.calibration.row_file import RowFile
from phiedge.calibration.run import Run


class PassingRows:
    """Files of a run; layer i reads `before(i)` and writes `unfinished()`."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._held = [place for place, sample in enumerate(run.samples) if sample.held_out]

    def begin(self) -> None:
        """Make the rows that enter the first layer."""
        rows = self.unfinished()
        write_first_rows(self._run.source, self._run.samples, rows, self._run.progress)
        original = self._original("original.part")
        for index, place in enumerate(self._held):
            original.write(index, rows.read(place))
        self._keep(0)

    def reach(self, layer: int) -> bool:
        """Whether the rows that enter `layer` are there."""
        return self.before(layer).is_whole and self._original(f"original.{layer}").is_whole

    def before(self, layer: int) -> RowFile:
        """The rows that enter a layer."""
        return self._run.rows(f"rows.{layer}")

    def unfinished(self) -> RowFile:
        """Where a layer writes."""
        return self._run.rows("rows.part")

    def advance(self, layer: int) -> float:
        """Take what `layer` wrote, bring the original as far, and return |quantised - original|^2 / |original|^2."""
        source, compute = self._run.source, self._run.compute
        math = LayerMath(config=source.config)
        norms = [read_tensor(source, name) for name in norm_names(layer)]
        weights: dict[Linear, Tensor] = {
            linear: read_tensor(source, linear_name(layer, linear)).to(compute) for linear in LINEARS
        }
        before, after = self._original(f"original.{layer}"), self._original("original.part")
        quantised = self.unfinished()

        def multiply(linear: Linear, x: Tensor) -> Tensor:
            return functional.linear(x.to(compute), weights[linear])

        error = size = 0.0
        for index, place in enumerate(self._held):
            rows = math.forward(before.read(index), (norms[0], norms[1]), multiply)
            after.write(index, rows)
            error += float((quantised.read(place) - rows).square().sum())
            size += float(rows.square().sum())
        self._keep(layer + 1)
        return error / max(size, 1e-30)

    def forget(self, layer: int) -> None:
        """Remove what entered a layer that is done."""
        self.before(layer).path.unlink(missing_ok=True)
        self._original(f"original.{layer}").path.unlink(missing_ok=True)

    def divergence(self) -> Mapping[str, Divergence]:
        """How the next-token distributions compare behind the last layer, on the held-out rows, by kind of row."""
        run, config = self._run, self._run.source.config
        quantised, original = self.before(config.num_layers), self._original(f"original.{config.num_layers}")
        norm = read_tensor(run.source, FINAL_NORM)
        math = LayerMath(config=config)
        theirs, ours, kinds = [], [], []
        for index, place in enumerate(self._held):
            held = run.roles[place].held
            theirs.append(math.normed(original.read(index)[held], norm))
            ours.append(math.normed(quantised.read(place)[held], norm))
            kinds.append(torch.from_numpy(run.samples[place].kinds)[held])
        head = read_tensor(run.source, HEAD).to(run.compute)
        return compare_rows(torch.cat(theirs), torch.cat(ours), torch.cat(kinds), head)

    def _keep(self, layer: int) -> None:
        self.unfinished().renamed(self._run.directory / f"rows.{layer}")
        self._original("original.part").renamed(self._run.directory / f"original.{layer}")

    def _original(self, name: str) -> RowFile:
        lengths = [self._run.samples[place].rows for place in self._held]
        return RowFile(self._run.directory / name, lengths, self._run.source.config.hidden_size)
