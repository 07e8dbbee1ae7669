"""Scales for a cache of keys and values: of int8 and of float8 (E4M3), for a tensor, and of int8 for each channel.

Keys are stored rotated by their position: channels i and i + D/2 of a head turn together, some of them so slowly that
no sample here is long enough to see them turn. What is in one of the two at the beginning of a context is in the other
later. So a pair of channels has one scale, by the length of the pair, and candidates are judged on keys turned further.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from phiedge.calibration.decoder_layer import Cached
from phiedge.calibration.eight_bits import LARGEST, SHRINKS, Format, StaticScale, rounded, static_scale
from phiedge.calibration.statistics import RowRoles
from phiedge.errors import ExportError
from phiedge.exporters.attention_op import rotate_half_split
from phiedge.exporters.cache_scales import CacheScales
from phiedge.exporters.values import Float32

Side: TypeAlias = Literal["key", "value"]
SIDES: tuple[Side, ...] = get_args(Side)
_TURNS = (0.0, math.pi / 4, math.pi / 2)
# Of the scale that covers the tensor: a channel that no sample had anything in may have something later.
_LEAST_OF_TENSOR = 1 / 128


@dataclass(frozen=True, slots=True, kw_only=True)
class SideScales:
    """Keys or values of one layer. tensor: one scale for all, by format; channels: float32 [kv_heads * D], for int8.

    `channel_error` is |x' - x|^2 / |x|^2 with the scales of channels, as `StaticScale.errors` are with one scale.
    `largest` is the largest number in magnitude that may occur.
    """

    largest: float
    tensor: Mapping[Format, StaticScale]
    channels: Float32
    channel_error: float

    def told(self) -> dict[str, Any]:
        """What a report says: everything but the scales of channels."""
        told: dict[str, Any] = {"largest": self.largest}
        for form, scale in self.tensor.items():
            told[form] = asdict(scale)
        told["int8"]["channel_error"] = self.channel_error
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCacheScales:
    """Both sides of one layer's cache."""

    key: SideScales
    value: SideScales

    def sides(self) -> tuple[tuple[Side, SideScales], ...]:
        return ("key", self.key), ("value", self.value)

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values; numbers come back as they were."""
        return {
            side: {
                "largest": found.largest,
                "tensor": {form: asdict(scale) for form, scale in found.tensor.items()},
                "channels": [float(scale) for scale in found.channels],
                "channel_error": found.channel_error,
            }
            for side, found in self.sides()
        }

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> "LayerCacheScales":
        """What `to_json` gave."""
        key, value = (_side(stored[side]) for side in SIDES)
        return LayerCacheScales(key=key, value=value)


def _side(stored: Mapping[str, Any]) -> SideScales:
    return SideScales(
        largest=stored["largest"],
        tensor={form: StaticScale(**scale) for form, scale in stored["tensor"].items()},
        channels=np.array(stored["channels"], np.float32),
        channel_error=stored["channel_error"],
    )


def graph_scales(layers: tuple[LayerCacheScales, ...]) -> CacheScales:
    """What a graph with a cache in int8 takes."""
    return CacheScales(layers=[(layer.key.channels, layer.value.channels) for layer in layers])


@dataclass(slots=True, kw_only=True)
class CacheStatistics:
    """What is seen of one layer's keys, rotated, and values: some rows, and the largest number by channel.

    Samples that are held out are only looked at for numbers that are none.
    """

    layer: int
    _rows: dict[Side, list[Tensor]] = field(default_factory=lambda: {side: [] for side in SIDES})
    _largest: dict[Side, Tensor] = field(default_factory=dict)

    def add(self, key: Tensor, value: Tensor, roles: RowRoles, *, sample: str) -> None:
        """Take keys and values [kv_heads, t, D] of one sample. Raises `ExportError` where one is not finite."""
        for side, part in zip(SIDES, (key, value), strict=True):
            x = part.to(torch.float32)
            if not bool(torch.isfinite(x.sum())):
                raise ExportError(
                    f"sample {sample}: the {side}s of layer {self.layer} are not all numbers",
                    remedy="leave the sample out; if every sample does it, the checkpoint is damaged",
                )
            if not bool(roles.weights.any()):
                continue
            lengths = _pair_lengths(x) if side == "key" else x.abs()
            most = lengths.amax(dim=1)
            self._largest[side] = torch.maximum(self._largest[side], most) if side in self._largest else most
            self._rows[side].append(x[:, roles.searched])

    def looking(self, roles: RowRoles, *, sample: str) -> Cached:
        """A cache that loses nothing, and shows here what it is given of one sample."""

        def look(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
            self.add(key, value, roles, sample=sample)
            return key, value

        return look

    def fold(self, rows: Tensor) -> None:
        """Take the values as those that come of a projection whose rows are multiplied by `rows` [kv_heads * D]."""
        factors = rows.view_as(self._largest["value"])
        self._largest["value"] = self._largest["value"] * factors.abs()
        self._rows["value"] = [part * factors[:, None] for part in self._rows["value"]]

    def scales(self) -> LayerCacheScales:
        """The scales for numbers like those seen."""
        return LayerCacheScales(key=self._side("key"), value=self._side("value"))

    def _side(self, side: Side) -> SideScales:
        rows, most = torch.cat(self._rows[side], dim=1), self._largest[side]
        if side == "key":
            rows = torch.cat([_turned(rows, angle) for angle in _TURNS], dim=1)
        largest = float(most.max())
        forms: tuple[Format, ...] = get_args(Format)
        channels, error = _channel_scales(rows, most, pairs=side == "key")
        return SideScales(
            largest=largest,
            tensor={form: static_scale(rows, largest, form) for form in forms},
            channels=channels,
            channel_error=error,
        )


def _pair_lengths(key: Tensor) -> Tensor:
    """The length of the pair that each channel turns in: [kv, t, D] to the same shape."""
    first, second = key.chunk(2, dim=-1)
    return torch.hypot(first, second).repeat(1, 1, 2)


def _turned(key: Tensor, angle: float) -> Tensor:
    half = key.shape[-1] // 2
    cos, sin = (torch.full((1, half), turn) for turn in (math.cos(angle), math.sin(angle)))
    return rotate_half_split(key, cos, sin)


def _channel_scales(rows: Tensor, most: Tensor, *, pairs: bool) -> tuple[Float32, float]:
    """The scales with the least squared error on `rows` [kv, n, D] for channels of at most `most` [kv, D]; the error.

    Two channels that turn together (`pairs`) get one scale.
    """
    covering = torch.clamp(most, min=max(float(most.max()) * _LEAST_OF_TENSOR, 1e-12)) / LARGEST["int8"]
    best = torch.full_like(covering, torch.inf)
    scales = covering
    for shrink in SHRINKS:
        tried = covering * shrink
        lost = (rounded(rows, tried[:, None], "int8") - rows).square().sum(dim=1)
        if pairs:
            lost = lost.view(len(lost), 2, -1).sum(dim=1).repeat(1, 2)
        scales = torch.where(lost < best, tried, scales)
        best = torch.minimum(lost, best)
    error = float((rounded(rows, scales[:, None], "int8") - rows).square().sum()) / max(
        float(rows.square().sum()), 1e-30
    )
    found: Float32 = scales.flatten().numpy().astype(np.float32)
    return found, error
