"""Cached attention as one operator: rotary positions, append to the cache, causal grouped attention.

A traced graph keeps this operator whole, so that a dialect can map it to whatever its engine does best (one fused
`GroupQueryAttention` on ONNX Runtime, scatter and masked attention elsewhere). The body below is the eager reference
that every dialect is tested against; it is written to be read, not to be fast.
"""

import torch
from torch import Tensor

NAMESPACE = "phiedge"
OP_NAME = "cached_attention"


def rotate_half_split(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate `x: [..., t, D]` by `cos, sin: [t, D/2]`, pairing element i with i + D/2."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@torch.library.custom_op(f"{NAMESPACE}::{OP_NAME}", mutates_args=())
def cached_attention(
    qkv: Tensor,
    past_key: Tensor,
    past_value: Tensor,
    seqlens_k: Tensor,
    total_sequence_length: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    num_heads: int,
    kv_heads: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Append `t` rows to the cache and attend causally from them to everything before.

    qkv: [1, t, (num_heads + 2 * kv_heads) * D], rows Q, K, V; not yet rotated.
    past_key, past_value: [1, kv_heads, capacity, D]; keys are stored rotated. Rows after `seqlens_k` are not read.
    seqlens_k: [1] int32, the number of valid cache rows *after* this call, minus one.
    total_sequence_length: int32 scalar, at least `seqlens_k + 1`; engines size their scratch by it, the result does not
    depend on it.
    cos_cache, sin_cache: [max_context, D / 2].

    Returns the attended rows [1, t, num_heads * D] and the two caches with `t` rows added. Query head h reads key/value
    head h // (num_heads // kv_heads). The softmax is float32.
    """
    t, head_dim = qkv.shape[1], past_key.shape[3]
    total = int(seqlens_k.item()) + 1
    start = total - t
    heads = qkv[0].view(t, num_heads + 2 * kv_heads, head_dim).transpose(0, 1)
    query, key, value = heads[:num_heads], heads[num_heads:-kv_heads], heads[-kv_heads:]
    cos, sin = cos_cache[start:total], sin_cache[start:total]

    present_key, present_value = past_key.clone(), past_value.clone()
    present_key[0, :, start:total] = rotate_half_split(key, cos, sin)
    present_value[0, :, start:total] = value

    group = num_heads // kv_heads
    keys = present_key[0, :, :total].repeat_interleave(group, dim=0)
    values = present_value[0, :, :total].repeat_interleave(group, dim=0)
    future = torch.ones(t, total, dtype=torch.bool).triu(diagonal=start + 1)
    scores = (rotate_half_split(query, cos, sin) @ keys.transpose(1, 2)).float() * scale
    weights = scores.masked_fill(future, float("-inf")).softmax(dim=-1).to(values.dtype)
    attended = (weights @ values).transpose(0, 1).flatten(1).unsqueeze(0)
    return attended.contiguous(), present_key, present_value


@cached_attention.register_fake
def _cached_attention_shapes(
    qkv: Tensor,
    past_key: Tensor,
    past_value: Tensor,
    seqlens_k: Tensor,
    total_sequence_length: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    num_heads: int,
    kv_heads: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    rows = qkv.new_empty(1, qkv.shape[1], num_heads * past_key.shape[3])
    return rows, torch.empty_like(past_key), torch.empty_like(past_value)
