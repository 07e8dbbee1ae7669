"""One decoder layer in pieces, for whole sequences without a cache: what stands between its four linears.

The formulas are those of `phiedge.exporters.decoder`, and a test holds them to it. There the cache makes it awkward to
stop between two linears; here nothing else happens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional

from phiedge.exporters.attention_op import rotate_half_split
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.rotary import rotary_tables
from phiedge.exporters.safetensors_file import Array, Dtype
from phiedge.exporters.values import StoredRows

Linear: TypeAlias = Literal["qkv", "o", "gate_up", "down"]
LINEARS: tuple[Linear, ...] = get_args(Linear)
Multiply: TypeAlias = Callable[[Linear, Tensor], Tensor]
Cached: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
_MODULES: dict[Linear, str] = {
    "qkv": "self_attn.qkv_proj",
    "o": "self_attn.o_proj",
    "gate_up": "mlp.gate_up_proj",
    "down": "mlp.down_proj",
}


class TensorReader(Protocol):
    """Random access to the tensors of a checkpoint, as `Checkpoint` gives it."""

    @property
    def config(self) -> ModelConfig: ...

    def dtype(self, name: str) -> Dtype: ...

    def tensor(self, name: str, rows: slice | None = None) -> Array: ...


def as_they_are(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """A cache that loses nothing."""
    return key, value


def read_tensor(source: TensorReader, name: str, rows: slice | None = None) -> Tensor:
    """A tensor as float32. Raises `TensorError` where a value is not finite."""
    first = 0 if rows is None or rows.start is None else rows.start
    stored = StoredRows(name=name, dtype=source.dtype(name), first_row=first, values=source.tensor(name, rows))
    return torch.from_numpy(stored.float32())


def linear_name(layer: int, linear: Linear) -> str:
    """The checkpoint's name of a linear's weight."""
    return f"model.layers.{layer}.{_MODULES[linear]}.weight"


def norm_names(layer: int) -> tuple[str, str]:
    """The checkpoint's names of the norms before attention and before the gated MLP."""
    return f"model.layers.{layer}.input_layernorm.weight", f"model.layers.{layer}.post_attention_layernorm.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMath:
    """What a layer computes besides its linears; rows are [t, ...] of one whole sequence."""

    config: ModelConfig

    def normed(self, x: Tensor, weight: Tensor) -> Tensor:
        """The RMS norm."""
        return functional.rms_norm(x, weight.shape, weight, self.config.rms_norm_eps)

    def attended(self, qkv: Tensor, cached: Cached = as_they_are) -> Tensor:
        """Causal attention of the sequence with itself, from the fused projection [t, (heads + 2 kv) D].

        `cached` is what a cache makes of keys (after rotation) and values, [kv, t, D] each.
        """
        heads, kv_heads, d = self.config.num_heads, self.config.num_kv_heads, self.config.head_dim
        by_head = qkv.view(len(qkv), heads + 2 * kv_heads, d).transpose(0, 1)
        query, key, value = by_head[:heads], by_head[heads:-kv_heads], by_head[-kv_heads:]
        cos, sin = (table[: len(qkv)].to(qkv.dtype) for table in _tables(d, self.config.rope_theta, _rounded(len(qkv))))
        query, key = rotate_half_split(query, cos, sin), rotate_half_split(key, cos, sin)
        key, value = cached(key, value)
        key, value = (part.repeat_interleave(heads // kv_heads, dim=0) for part in (key, value))
        attended = functional.scaled_dot_product_attention(query[None], key[None], value[None], is_causal=True)[0]
        return attended.transpose(0, 1).flatten(1)

    def gated(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up, from the fused projection [t, 2 I]."""
        gate, up = gate_up.chunk(2, dim=-1)
        return functional.silu(gate) * up

    def forward(
        self, x: Tensor, norms: tuple[Tensor, Tensor], multiply: Multiply, cached: Cached = as_they_are
    ) -> Tensor:
        """The whole layer; `multiply` applies a linear."""
        h = x + multiply("o", self.attended(multiply("qkv", self.normed(x, norms[0])), cached)).to(x.dtype)
        return h + multiply("down", self.gated(multiply("gate_up", self.normed(h, norms[1])))).to(x.dtype)


def _rounded(length: int) -> int:
    return -(-length // 1024) * 1024


@lru_cache(maxsize=4)
def _tables(head_dim: int, theta: float, positions: int) -> tuple[Tensor, Tensor]:
    cos, sin = rotary_tables(head_dim, theta, positions)
    return torch.from_numpy(cos), torch.from_numpy(sin)
