"""Weights that no training has seen: every tensor of a configuration, made when it is asked for.

Names, shapes and type are those of the published checkpoint; the values are random (`random_values.py`) with the spread
that an initialisation has, so that activations stay of order one through all layers.
"""

import math
from dataclasses import dataclass

import numpy as np

from phiedge.exporters.config import ModelConfig
from phiedge.exporters.random_values import Bits, Float32, RandomValues, to_bfloat16
from phiedge.exporters.tensors import TOWER_PREFIX

_BIAS_STD = 0.02
_NORM_STD = 0.05  # around 1
_TABLE_STD = 0.05  # rows that are looked up: embeddings, positions
# What these give is added to the residual stream, once per half of a layer.
_RESIDUAL = ("o_proj", "down_proj", "out_proj", "fc2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How the values of one tensor lie: around `mean`, with the standard deviation `std`."""

    mean: float
    std: float


class RandomTensors:
    """The tensors of `config` in bfloat16; the same seed gives the same values, whole or in parts, on any machine."""

    def __init__(self, config: ModelConfig, *, seed: int = 0) -> None:
        self._specs = config.tensors()
        self._spreads = {name: spread(config, name, spec.shape) for name, spec in self._specs.items()}
        self._values = RandomValues(seed)

    def names(self) -> tuple[str, ...]:
        """Every tensor of the architecture."""
        return tuple(self._specs)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape, rows first."""
        return self._specs[name].shape

    def tensor(self, name: str, rows: slice | None = None) -> Bits:
        """The tensor, or some of its rows, as the bits of bfloat16."""
        side, *rest = self._specs[name].shape
        first, stop, step = (rows or slice(None)).indices(side)
        assert step == 1, "rows are read in order"
        stop = max(first, stop)
        row_elements = math.prod(rest)
        made = np.empty((stop - first) * row_elements, np.uint16)
        self._fill(name, first * row_elements, made)
        return made.reshape(stop - first, *rest)

    def _fill(self, name: str, start: int, out: Bits) -> None:
        around = self._spreads[name]
        self._values.normal(name, start, out, std=around.std)
        if around.mean:
            out[:] = to_bfloat16(_widen(out) + np.float32(around.mean))


def spread(config: ModelConfig, name: str, shape: tuple[int, ...]) -> Spread:
    """Where the values of a tensor lie, by its role."""
    *_, module, kind = name.split(".")
    if "norm" in module:
        return Spread(mean=1.0, std=_NORM_STD) if kind == "weight" else Spread(mean=0.0, std=_BIAS_STD)
    if kind.endswith("bias"):
        return Spread(mean=0.0, std=_BIAS_STD)
    if module in ("embed_tokens", "position_embedding") or kind == "probe":
        return Spread(mean=0.0, std=_TABLE_STD)
    std = 1 / math.sqrt(shape[-1])  # keeps the spread of its input
    if module in _RESIDUAL:
        layers = config.vision_layers if name.startswith(TOWER_PREFIX) else config.num_layers
        std /= math.sqrt(2 * layers)
    return Spread(mean=0.0, std=std)


def _widen(bits: Bits) -> Float32:
    widened = bits.astype(np.uint32)
    widened <<= np.uint32(16)
    return widened.view(np.float32)
