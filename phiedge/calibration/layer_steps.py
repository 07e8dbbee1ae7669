"""The four linears of a layer in the order of the forward pass: where each gets its inputs, and who takes its outputs.

Every sample goes through the layer once. Between two linears its rows wait in a file, so that memory holds one weight
and the rows of one sample.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from phiedge.calibration.decoder_layer import Cached, LayerMath, Linear, as_they_are
from phiedge.calibration.row_file import RowFile
from phiedge.exporters.config import ModelConfig

_BETWEEN = ("attended", "middle", "gated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One linear: where its inputs [t, K] for a sample come from, and where what it gives goes."""

    linear: Linear
    inputs: Callable[[int], Tensor]
    take: Callable[[int, Tensor], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSteps:
    """The steps of one layer for samples of `lengths`; products are in `compute`, files in `directory`."""

    config: ModelConfig
    lengths: Sequence[int]
    compute: torch.dtype
    directory: Path

    def steps(
        self,
        norms: tuple[Tensor, Tensor],
        before: RowFile,
        after: RowFile,
        cached: Callable[[int], Cached] = lambda i: as_they_are,
    ) -> Iterator[Step]:
        """Each step's inputs are there once the one before it has taken the rows of all samples.

        `cached` is what a cache makes of the keys and values of a sample.
        """
        config, math = self.config, LayerMath(config=self.config)
        attended = RowFile(self.directory / "attended", self.lengths, config.hidden_size, self.compute)
        middle = RowFile(self.directory / "middle", self.lengths, config.hidden_size)
        gated = RowFile(self.directory / "gated", self.lengths, config.intermediate_size, self.compute)
        yield Step(
            linear="qkv",
            inputs=lambda i: math.normed(before.read(i), norms[0]).to(self.compute),
            take=lambda i, y: attended.write(i, math.attended(y, cached(i))),
        )
        yield Step(linear="o", inputs=attended.read, take=lambda i, y: middle.write(i, before.read(i) + y))
        yield Step(
            linear="gate_up",
            inputs=lambda i: math.normed(middle.read(i), norms[1]).to(self.compute),
            take=lambda i, y: gated.write(i, math.gated(y)),
        )
        yield Step(linear="down", inputs=gated.read, take=lambda i, y: after.write(i, middle.read(i) + y))

    def remove(self) -> None:
        """Remove what waited between linears."""
        for name in _BETWEEN:
            (self.directory / name).unlink()

    def columns(self, linear: Linear) -> int:
        """The width of a linear's inputs."""
        return self.config.intermediate_size if linear == "down" else self.config.hidden_size
