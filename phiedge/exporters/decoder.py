"""The Phi-3 decoder, written for export: embeddings and caches in, the last token's logits and caches out.

Module and parameter names equal those of the checkpoint, so a parameter's path is its tensor's name. There is no
embedding here (the host looks rows up and splices image rows in), no sampling, no batch and no dropout.

Norms and the sums along the residual may have another type than the linear layers, which bring what they are given to
their own: docs/decisions/0405-which-types-on-a-gpu.md.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from phiedge.exporters.attention_op import cached_attention
from phiedge.exporters.config import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """What one layer's attention reads beside its rows; shapes as in `cached_attention`."""

    key: Tensor
    value: Tensor
    seqlens_k: Tensor
    total_sequence_length: Tensor
    cos: Tensor
    sin: Tensor


class RMSNorm(nn.Module):
    """x * rsqrt(mean(x^2) + eps) * weight, with the mean in float32."""

    def __init__(self, size: int, eps: float, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, dtype=dtype))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped attention over the cache, with the fused projection of the checkpoint (rows of Q, then K, then V)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads, self.kv_heads = config.num_heads, config.num_kv_heads
        self.scale = config.head_dim**-0.5
        heads_size = config.num_heads * config.head_dim
        qkv_size = heads_size + 2 * config.num_kv_heads * config.head_dim
        self.qkv_proj = nn.Linear(config.hidden_size, qkv_size, bias=False)
        self.o_proj = nn.Linear(heads_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, cache: Cache, *, last_row_only: bool) -> tuple[Tensor, Tensor, Tensor]:
        attended, key, value = cached_attention(
            self.qkv_proj(x.to(self.qkv_proj.weight.dtype)),
            cache.key,
            cache.value,
            cache.seqlens_k,
            cache.total_sequence_length,
            cache.cos,
            cache.sin,
            self.num_heads,
            self.kv_heads,
            self.scale,
        )
        if last_row_only:
            attended = attended[:, -1:]
        return self.o_proj(attended), key, value


class GatedMLP(nn.Module):
    """down(silu(gate) * up), with gate and up fused in one projection."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x.to(self.gate_up_proj.weight.dtype)).chunk(2, dim=-1)
        out: Tensor = self.down_proj(functional.silu(gate) * up)
        return out


class DecoderLayer(nn.Module):
    """One block: attention and gated MLP, each after an RMS norm and beside a residual."""

    def __init__(self, config: ModelConfig, norms: torch.dtype | None) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, norms)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, norms)
        self.mlp = GatedMLP(config)

    def forward(self, x: Tensor, cache: Cache, *, last_row_only: bool) -> tuple[Tensor, Tensor, Tensor]:
        """x: [1, t, hidden]. With `last_row_only`, everything after the attention is computed for one row."""
        attended, key, value = self.self_attn(self.input_layernorm(x), cache, last_row_only=last_row_only)
        residual = x[:, -1:] if last_row_only else x
        x = residual + attended.to(x.dtype)
        return x + self.mlp(self.post_attention_layernorm(x)).to(x.dtype), key, value


class DecoderStack(nn.Module):
    """The layers and the final norm (`model.*` of the checkpoint)."""

    def __init__(self, config: ModelConfig, norms: torch.dtype | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config, norms) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps, norms)


class Decoder(nn.Module):
    """The decoder graph, for positions below `max_context`; the buffers hold the tables of `rotary.py`.

    Norms and residual are of the type `norms`, by default of torch's default type, as all else is.
    """

    cos_cache: Tensor
    sin_cache: Tensor

    def __init__(self, config: ModelConfig, *, max_context: int, norms: torch.dtype | None = None) -> None:
        super().__init__()
        self.model = DecoderStack(config, norms)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.register_buffer("cos_cache", torch.empty(max_context, config.head_dim // 2))
        self.register_buffer("sin_cache", torch.empty(max_context, config.head_dim // 2))

    def forward(
        self, inputs_embeds: Tensor, seqlens_k: Tensor, total_sequence_length: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        """Run one chunk of `t` rows.

        inputs_embeds: [1, t, hidden]. past: key and value of layer 0, key and value of layer 1, ..., each
        [1, kv_heads, capacity, D]. seqlens_k and total_sequence_length: as in `cached_attention`.
        Returns the last row's logits [1, 1, vocab] in float32, then the caches in the order of `past`.

        Only the last row is wanted, so the last layer drops the others as soon as their keys and values are cached.
        """
        x, present = inputs_embeds.to(self.model.norm.weight.dtype), list[Tensor]()
        last = len(self.model.layers) - 1
        for index, layer in enumerate(self.model.layers):
            cache = Cache(
                key=past[2 * index],
                value=past[2 * index + 1],
                seqlens_k=seqlens_k,
                total_sequence_length=total_sequence_length,
                cos=self.cos_cache,
                sin=self.sin_cache,
            )
            x, key, value = layer(x, cache, last_row_only=index == last)
            present += [key, value]
        logits = self.lm_head(self.model.norm(x).to(self.lm_head.weight.dtype)).float()
        return (logits, *present)
