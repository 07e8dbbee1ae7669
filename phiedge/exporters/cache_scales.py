"""The scales of a cache of keys and values in int8, as a graph takes them: a number for every channel of every layer.

A key or value x is stored as round(x / scale), at most 127 in magnitude. Channels are those of all key/value heads in
a row: [kv_heads * head_dim]. How scales are found is no matter of the exporters' (`phiedge.calibration.kv_scales`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phiedge.errors import ExportError
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.values import Float32


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheScales:
    """`layers`: of every layer the scales of keys and of values, float32 [kv_heads * head_dim] each."""

    layers: Sequence[tuple[Float32, Float32]]

    def check(self, config: ModelConfig) -> None:
        """Raises `ExportError` for scales that are missing, of another shape, or not finite and positive."""
        if len(self.layers) != config.num_layers:
            raise ExportError(
                f"there are scales for the caches of {len(self.layers)} layers, the model has {config.num_layers}",
                remedy="calibrate again, with the model that is exported",
            )
        channels = config.num_kv_heads * config.head_dim
        for layer, sides in enumerate(self.layers):
            for name, scales in zip(("keys", "values"), sides, strict=True):
                if scales.shape != (channels,):
                    raise ExportError(
                        f"layer {layer}: the scales of {name} have shape {list(scales.shape)}, not [{channels}]",
                        remedy="calibrate again, with the model that is exported",
                    )
                wrong = np.flatnonzero(~(np.isfinite(scales) & (scales > 0)))
                if wrong.size:
                    raise ExportError(
                        f"layer {layer}: the scale of {name} in channel {wrong[0]} is {scales[wrong[0]]}",
                        remedy="calibrate again; if it is so again, export with --kv-cache float",
                    )

    def digest(self) -> str:
        """The SHA-256 of all scales, layer by layer, keys before values, as little-endian float32."""
        told = hashlib.sha256()
        for sides in self.layers:
            for scales in sides:
                told.update(scales.astype("<f4").tobytes())
        return told.hexdigest()


def scale_names(layer: int) -> tuple[str, str]:
    """What the scales of a layer's keys and values are called in a graph."""
    return f"model.layers.{layer}.self_attn.k_scale", f"model.layers.{layer}.self_attn.v_scale"
