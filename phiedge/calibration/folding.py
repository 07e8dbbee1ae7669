"""Where the factors of smoothing go: into whatever makes a linear's inputs, in the fused layout of the checkpoint.

linear    its inputs come from                      so 1 / factor goes into
qkv       the norm before the attention             that norm's weight
o         values, mixed over positions by attention the rows of V in qkv; heads that share V share factors
gate_up   the norm before the gated MLP             that norm's weight
down      silu(gate) * up                           the rows of up in gate_up
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from phiedge.calibration.decoder_layer import Linear, linear_name, norm_names
from phiedge.calibration.smoothing import Pool, each_column
from phiedge.exporters.config import ModelConfig

PAIRS: tuple[tuple[Linear, Linear], ...] = (("qkv", "o"), ("gate_up", "down"))  # whose rows make whose inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Folding:
    """How the factors of each linear of one model are shared and folded."""

    config: ModelConfig

    def pool(self, linear: Linear) -> Pool:
        """Makes alike what must be alike."""
        return self._mean_over_shared_heads if linear == "o" else each_column

    def upstream_rows(self, linear: Linear, factors: Tensor) -> Tensor:
        """For "o" and "down": what the rows of qkv or gate_up are multiplied by."""
        if linear == "down":
            return torch.cat([torch.ones_like(factors), 1 / factors])
        assert linear == "o", linear
        config = self.config
        of_values = self._by_shared_head(factors)[:, 0].flatten()
        others = (config.num_heads + config.num_kv_heads) * config.head_dim
        return torch.cat([torch.ones(others), 1 / of_values])

    def folded(self, layer: int, tensors: Mapping[str, Tensor], factors: Mapping[Linear, Tensor]) -> dict[str, Tensor]:
        """All six tensors of a layer with the `factors` folded: they compute the same as before."""
        names: dict[Linear, str] = {
            "qkv": linear_name(layer, "qkv"),
            "o": linear_name(layer, "o"),
            "gate_up": linear_name(layer, "gate_up"),
            "down": linear_name(layer, "down"),
        }
        folded = {name: tensors[name] for name in (*names.values(), *norm_names(layer))}
        for linear, name in names.items():
            folded[name] = folded[name] * factors[linear]
        attention, mlp = norm_names(layer)
        folded[attention] = folded[attention] / factors["qkv"]
        folded[mlp] = folded[mlp] / factors["gate_up"]
        for upstream, linear in PAIRS:
            rows = self.upstream_rows(linear, factors[linear])
            folded[names[upstream]] = folded[names[upstream]] * rows[:, None]
        return folded

    def _by_shared_head(self, columns: Tensor) -> Tensor:
        config = self.config
        return columns.view(config.num_kv_heads, config.num_heads // config.num_kv_heads, config.head_dim)

    def _mean_over_shared_heads(self, magnitudes: Tensor) -> Tensor:
        by_head = self._by_shared_head(magnitudes)
        return by_head.mean(dim=1, keepdim=True).expand_as(by_head).flatten()
