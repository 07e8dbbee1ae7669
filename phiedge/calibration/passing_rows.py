"""The rows of all samples on their way through the layers: those of the quantised model, and of the original.

The original's are kept for held-out samples only. Between two layers both are whole files; a layer writes new ones and
renames them when they are whole.
"""

from collections.abc import Mapping, Sequence
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
from phiedge.calibration.divergence import Divergence, compare_rows
from phiedge.calibration.first_rows import write_first_rows
from phiedge.calibration.head_run import FINAL_NORM, HEAD
from phiedge.calibration.row_file import RowFile
from phiedge.calibration.samples import Sample
from phiedge.calibration.statistics import RowRoles
from phiedge.progress import Progress


class PassingRows:
    """Files in `directory`; layer i reads `before(i)` and writes `unfinished()`."""

    def __init__(
        self,
        source: TensorReader,
        samples: Sequence[Sample],
        roles: Sequence[RowRoles],
        directory: Path,
        compute: torch.dtype,
    ) -> None:
        self._source = source
        self._samples = samples
        self._roles = roles
        self._directory = directory
        self._compute = compute
        self._held = [place for place, sample in enumerate(samples) if sample.held_out]

    def begin(self, progress: Progress) -> None:
        """Make the rows that enter the first layer."""
        rows = self.unfinished()
        write_first_rows(self._source, self._samples, rows, progress)
        original = self._original("original.part")
        for index, place in enumerate(self._held):
            original.write(index, rows.read(place))
        self._keep(0)

    def reach(self, layer: int) -> bool:
        """Whether the rows that enter `layer` are there."""
        return self.before(layer).is_whole and self._original(f"original.{layer}").is_whole

    def before(self, layer: int) -> RowFile:
        """The rows that enter a layer."""
        return self._all(f"rows.{layer}")

    def unfinished(self) -> RowFile:
        """Where a layer writes."""
        return self._all("rows.part")

    def advance(self, layer: int) -> float:
        """Take what `layer` wrote, bring the original as far, and return |quantised - original|^2 / |original|^2."""
        math = LayerMath(config=self._source.config)
        norms = [read_tensor(self._source, name) for name in norm_names(layer)]
        weights: dict[Linear, Tensor] = {
            linear: read_tensor(self._source, linear_name(layer, linear)).to(self._compute) for linear in LINEARS
        }
        before, after = self._original(f"original.{layer}"), self._original("original.part")
        quantised = self.unfinished()

        def multiply(linear: Linear, x: Tensor) -> Tensor:
            return functional.linear(x.to(self._compute), weights[linear])

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
        layers = self._source.config.num_layers
        quantised, original = self.before(layers), self._original(f"original.{layers}")
        norm = read_tensor(self._source, FINAL_NORM)
        math = LayerMath(config=self._source.config)
        theirs, ours, kinds = [], [], []
        for index, place in enumerate(self._held):
            held = self._roles[place].held
            theirs.append(math.normed(original.read(index)[held], norm))
            ours.append(math.normed(quantised.read(place)[held], norm))
            kinds.append(torch.from_numpy(self._samples[place].kinds)[held])
        head = read_tensor(self._source, HEAD).to(self._compute)
        return compare_rows(torch.cat(theirs), torch.cat(ours), torch.cat(kinds), head)

    def _keep(self, layer: int) -> None:
        self.unfinished().renamed(self._directory / f"rows.{layer}")
        self._original("original.part").renamed(self._directory / f"original.{layer}")

    def _all(self, name: str) -> RowFile:
        return RowFile(self._directory / name, [s.rows for s in self._samples], self._source.config.hidden_size)

    def _original(self, name: str) -> RowFile:
        lengths = [self._samples[place].rows for place in self._held]
        return RowFile(self._directory / name, lengths, self._source.config.hidden_size)
