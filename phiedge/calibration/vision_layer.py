"""One stage of the vision encoder, a layer or the projector, in pieces: what stands between its products.

The formulas are those of `phiedge.exporters.vision`, whose modules do the work; a test holds them to it. All pictures
go through a stage one after the other, and between two products their rows wait in a file.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from phiedge.calibration.decoder_layer import TensorReader, read_tensor
from phiedge.calibration.row_file import RowFile
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.tensors import TOWER_PREFIX
from phiedge.exporters.vision_linears import layer_linears, projector_linears

Multiply: TypeAlias = Callable[[str, Tensor], Tensor]
PROJECTOR = "projector"
_BETWEEN = ("vision.attended", "vision.middle", "vision.gelu")


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionStage:
    """A layer of the encoder, or the projector behind the last: its small tensors, and the sources of its products."""

    config: ModelConfig
    layer: int | None
    small: Mapping[str, Tensor]

    @staticmethod
    def read(source: TensorReader, place: int) -> "VisionStage":
        """The stage at `place`: the layers come first."""
        config = source.config
        layer = None if place == config.vision_layers_used else place
        names = [name.removesuffix("weight") + "bias" for names in linears_of(layer).values() for name in names]
        if layer is not None:
            block = f"{TOWER_PREFIX}encoder.layers.{layer}.layer_norm"
            names += [f"{block}{place}.{part}" for place in (1, 2) for part in ("weight", "bias")]
        return VisionStage(config=config, layer=layer, small={name: read_tensor(source, name) for name in names})

    @property
    def told(self) -> str:
        return f"vision layer {self.layer}" if self.layer is not None else PROJECTOR

    @property
    def linears(self) -> dict[str, tuple[str, ...]]:
        """The tensors of each product."""
        return linears_of(self.layer)

    def weight(self, source: TensorReader, linear: str) -> Tensor:
        """The weight [N, K] of a product: that of Q, K and V is the three of them, one behind the other."""
        return torch.cat([read_tensor(source, name) for name in self.linears[linear]])

    def bias(self, linear: str) -> Tensor:
        """The bias [N]."""
        return torch.cat([self.small[name.removesuffix("weight") + "bias"] for name in self.linears[linear]])

    def columns(self, linear: str) -> int:
        """The width of a product's input."""
        wide = {"fc2": self.config.vision_intermediate_size, "projector.2": self.config.hidden_size}
        return wide.get(linear, self.config.vision_hidden_size)

    def width(self) -> int:
        """The width of the rows that leave the stage."""
        return self.config.vision_hidden_size if self.layer is not None else self.config.hidden_size

    def normed(self, x: Tensor, place: int) -> Tensor:
        """The first norm of a layer, or the second."""
        norm = f"{TOWER_PREFIX}encoder.layers.{self.layer}.layer_norm{place}"
        weight, bias = self.small[f"{norm}.weight"], self.small[f"{norm}.bias"]
        return functional.layer_norm(x, weight.shape, weight, bias, self.config.vision_layer_norm_eps)

    def attended(self, qkv: Tensor) -> Tensor:
        """Attention of a picture with itself, from [n, 3 C]."""
        query, key, value = (
            part.view(len(qkv), self.config.vision_heads, -1).transpose(0, 1)[None] for part in qkv.chunk(3, dim=-1)
        )
        return functional.scaled_dot_product_attention(query, key, value)[0].transpose(0, 1).flatten(1)

    def forward(self, x: Tensor, multiply: Multiply) -> Tensor:
        """All of it for one picture, [n, C]; `multiply` adds the bias, too."""
        if self.layer is None:
            return multiply("projector.2", functional.gelu(multiply("projector.0", x)))
        x = x + multiply("out", self.attended(multiply("qkv", self.normed(x, 1))))
        return x + multiply("fc2", gelu(multiply("fc1", self.normed(x, 2))))


def linears_of(layer: int | None) -> dict[str, tuple[str, ...]]:
    """The tensors of each product of a layer, or of the projector."""
    return projector_linears() if layer is None else layer_linears(layer)


def gelu(x: Tensor) -> Tensor:
    """The tanh form, as the layers have it; the projector has the exact one."""
    return functional.gelu(x, approximate="tanh")


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionStep:
    """One product: where its inputs [n, K] for a picture come from, and where what it gives goes."""

    linear: str
    inputs: Callable[[int], Tensor]
    take: Callable[[int, Tensor], None]


def vision_steps(
    stage: VisionStage, lengths: Sequence[int], directory: Path, before: RowFile, after: RowFile
) -> Iterator[VisionStep]:
    """Each step's inputs are there once the one before it has taken the rows of all pictures."""
    width, inner = stage.config.vision_hidden_size, stage.config.vision_intermediate_size
    attended, middle, wide = (
        RowFile(directory / name, lengths, size)
        for name, size in zip(
            _BETWEEN, (width, width, inner if stage.layer is not None else stage.config.hidden_size), strict=True
        )
    )
    if stage.layer is None:
        yield VisionStep(linear="projector.0", inputs=before.read, take=lambda i, y: wide.write(i, functional.gelu(y)))
        yield VisionStep(linear="projector.2", inputs=wide.read, take=after.write)
    else:
        yield VisionStep(
            linear="qkv",
            inputs=lambda i: stage.normed(before.read(i), 1),
            take=lambda i, y: attended.write(i, stage.attended(y)),
        )
        yield VisionStep(linear="out", inputs=attended.read, take=lambda i, y: middle.write(i, before.read(i) + y))
        yield VisionStep(
            linear="fc1",
            inputs=lambda i: stage.normed(middle.read(i), 2),
            take=lambda i, y: wide.write(i, gelu(y)),
        )
        yield VisionStep(linear="fc2", inputs=wide.read, take=lambda i, y: after.write(i, middle.read(i) + y))
    for name in _BETWEEN:
        (directory / name).unlink(missing_ok=True)
