"""The reference model in its trainable form: free functions over weights under the checkpoint's own names.

Batched over pictures of one grid, and over many questions per picture, which `exporters/vision.py` and `decoder.py`
have no use for. The mathematics is that of the published architecture; `tests/reference` holds the two forms against
each other.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from phiedge.runtime.preprocess import Grid

TOWER = "model.vision_tower.vision_tower.vision_model."


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of the reference model. Every K dimension is a multiple of 128, query heads to KV heads are 4:1."""

    vocab: int = 768
    hidden: int = 256
    layers: int = 4
    heads: int = 8
    kv_heads: int = 2
    intermediate: int = 512
    rope_theta: float = 500_000.0
    vision_hidden: int = 256
    vision_layers: int = 4  # in the checkpoint; the last one is not used
    vision_heads: int = 4
    vision_intermediate: int = 512
    patch_values: int = 768
    positions: int = 16

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


def initial_weights(shape: Shape, seed: int) -> dict[str, Tensor]:
    """Random weights, float32, under the checkpoint's names and in its layout."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int, std: float | None = None) -> Tensor:
        return torch.randn(*size, generator=generator) * (std if std is not None else size[-1] ** -0.5)

    w: dict[str, Tensor] = {}

    def linear(name: str, out: int, inner: int, *, bias: bool = False, gain: float = 1.0) -> None:
        w[name + ".weight"] = normal(out, inner) * gain
        if bias:
            w[name + ".bias"] = torch.zeros(out)

    def layer_norm(name: str, size: int) -> None:
        w[name + ".weight"], w[name + ".bias"] = torch.ones(size), torch.zeros(size)

    s, c = shape, shape.vision_hidden
    quiet = (2 * s.layers) ** -0.5  # the last linear of each residual branch
    w["model.embed_tokens.weight"] = normal(s.vocab, s.hidden, std=0.5)
    w["lm_head.weight"] = normal(s.vocab, s.hidden, std=0.02)
    w["model.norm.weight"] = torch.ones(s.hidden)
    for i in range(s.layers):
        p = f"model.layers.{i}."
        linear(p + "self_attn.qkv_proj", (s.heads + 2 * s.kv_heads) * s.head_dim, s.hidden)
        linear(p + "self_attn.o_proj", s.hidden, s.hidden, gain=quiet)
        linear(p + "mlp.gate_up_proj", 2 * s.intermediate, s.hidden)
        linear(p + "mlp.down_proj", s.hidden, s.intermediate, gain=quiet)
        w[p + "input_layernorm.weight"] = torch.ones(s.hidden)
        w[p + "post_attention_layernorm.weight"] = torch.ones(s.hidden)
    linear("model.mm_projector.0", s.hidden, c, bias=True)
    linear("model.mm_projector.2", s.hidden, s.hidden, bias=True)
    linear(TOWER + "embeddings.patch_embedding", c, s.patch_values, bias=True)
    w[TOWER + "embeddings.position_embedding.weight"] = normal(s.positions**2, c, std=0.3)
    for i in range(s.vision_layers):
        p = f"{TOWER}encoder.layers.{i}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{p}self_attn.{name}", c, c, bias=True, gain=quiet if name == "out_proj" else 1.0)
        linear(p + "mlp.fc1", s.vision_intermediate, c, bias=True)
        linear(p + "mlp.fc2", c, s.vision_intermediate, bias=True, gain=quiet)
        layer_norm(p + "layer_norm1", c)
        layer_norm(p + "layer_norm2", c)
    layer_norm(TOWER + "post_layernorm", c)
    w[TOWER + "head.probe"] = normal(1, 1, c)
    w[TOWER + "head.attention.in_proj_weight"], w[TOWER + "head.attention.in_proj_bias"] = (
        normal(3 * c, c),
        torch.zeros(3 * c),
    )
    linear(TOWER + "head.attention.out_proj", c, c, bias=True)
    layer_norm(TOWER + "head.layernorm", c)
    linear(TOWER + "head.mlp.fc1", s.vision_intermediate, c, bias=True)
    linear(TOWER + "head.mlp.fc2", c, s.vision_intermediate, bias=True)
    return w


def is_unused(name: str, shape: Shape) -> bool:
    """Whether the architecture leaves this tensor unused: last vision block, final vision norm, pooling head."""
    return name.startswith(
        (f"{TOWER}encoder.layers.{shape.vision_layers - 1}.", TOWER + "post_layernorm", TOWER + "head.")
    )


def position_weights(size: int, table: int) -> Tensor:
    """[size, table] rows of the antialiased bilinear resize from `table` to `size` samples (align_corners false)."""
    step = table / size
    radius = max(1.0, step)
    centre = (torch.arange(size) + 0.5) * step
    tap = torch.arange(table)
    low = torch.clamp((centre - radius + 0.5).floor(), min=0)[:, None]
    high = torch.clamp((centre + radius + 0.5).floor(), max=table)[:, None]
    rows = (1 - (tap - centre[:, None] + 0.5).abs() / radius).clamp(min=0) * ((tap >= low) & (tap < high))
    return rows / rows.sum(1, keepdim=True)


def see(w: Mapping[str, Tensor], patches: Tensor, grid: Grid, shape: Shape) -> Tensor:
    """patches [b, n, 768] of one grid -> projected rows [b, n, hidden]."""
    table = w[TOWER + "embeddings.position_embedding.weight"]
    square = table.float().view(shape.positions, shape.positions, -1)
    rows, columns = position_weights(grid.rows, shape.positions), position_weights(grid.columns, shape.positions)
    positions = torch.einsum("ai,bj,ijc->abc", rows, columns, square).flatten(0, 1)
    embedding = TOWER + "embeddings.patch_embedding."
    x = functional.linear(patches, w[embedding + "weight"], w[embedding + "bias"])
    x = x + positions.to(x.dtype)
    b, n, c = x.shape
    for i in range(shape.vision_layers - 1):
        p = f"{TOWER}encoder.layers.{i}."
        y = functional.layer_norm(x, (c,), w[p + "layer_norm1.weight"], w[p + "layer_norm1.bias"], 1e-6)
        q, k, v = (
            functional.linear(y, w[f"{p}self_attn.{name}.weight"], w[f"{p}self_attn.{name}.bias"])
            .view(b, n, shape.vision_heads, -1)
            .transpose(1, 2)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        scores = (q * (c // shape.vision_heads) ** -0.5) @ k.transpose(
            -1, -2
        )  # on CPU in bf16 quicker than the fused call at these sizes
        y = (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(b, n, c)
        x = x + functional.linear(y, w[p + "self_attn.out_proj.weight"], w[p + "self_attn.out_proj.bias"])
        y = functional.layer_norm(x, (c,), w[p + "layer_norm2.weight"], w[p + "layer_norm2.bias"], 1e-6)
        y = functional.gelu(functional.linear(y, w[p + "mlp.fc1.weight"], w[p + "mlp.fc1.bias"]), approximate="tanh")
        x = x + functional.linear(y, w[p + "mlp.fc2.weight"], w[p + "mlp.fc2.bias"])
    x = functional.gelu(functional.linear(x, w["model.mm_projector.0.weight"], w["model.mm_projector.0.bias"]))
    return functional.linear(x, w["model.mm_projector.2.weight"], w["model.mm_projector.2.bias"])


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Grouped attention of q [b, heads, m, d] over k and v [b, kv_heads, t, d]; `mask` [b, 1, m, t] is added.

    Spelled out: for these sizes, in bf16 on one CPU core, forward and backward take a third of the fused call's time.
    """
    b, heads, m, d = q.shape
    groups, t = k.shape[1], k.shape[2]
    scores = (q.reshape(b, groups, -1, d) * d**-0.5) @ k.transpose(-1, -2)
    scores = scores.view(b, groups, heads // groups, m, t) + mask[:, :, None]
    return (torch.softmax(scores, -1).view(b, groups, -1, t) @ v).view(b, heads, m, d)


def decode(
    w: Mapping[str, Tensor], x: Tensor, positions: Tensor, prefix: int, mask: Tensor, shape: Shape
) -> tuple[Tensor, Tensor]:
    """Embeddings x [b, t, hidden], positions [b, t] -> normalised hidden states [b, t, hidden], at the end and halfway.

    The first `prefix` rows are causal among themselves; `mask` [b, 1, t - prefix, t] is added to the scores of the
    rest.
    """
    b, t, _ = x.shape
    d, half = shape.head_dim, shape.head_dim // 2
    angles = positions[..., None].float() * torch.exp(torch.arange(half) * (-math.log(shape.rope_theta) / half))
    cos, sin = (f(angles).to(x.dtype)[:, None] for f in (torch.cos, torch.sin))  # [b, 1, t, half]

    causal = torch.full((prefix, prefix), -1e9, dtype=x.dtype).triu(1).expand(b, 1, prefix, prefix)

    def rotate(y: Tensor) -> Tensor:
        first, second = y[..., :half], y[..., half:]
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)

    for i in range(shape.layers):
        p = f"model.layers.{i}."
        y = functional.rms_norm(x, (shape.hidden,), w[p + "input_layernorm.weight"], 1e-5)
        qkv = functional.linear(y, w[p + "self_attn.qkv_proj.weight"]).view(b, t, -1, d).transpose(1, 2)
        q, k, v = torch.split(qkv, [shape.heads, shape.kv_heads, shape.kv_heads], dim=1)
        q, k = rotate(q), rotate(k)
        first = attend(q[:, :, :prefix], k[:, :, :prefix], v[:, :, :prefix], causal)
        rest = attend(q[:, :, prefix:], k, v, mask)
        y = torch.cat((first, rest), 2).transpose(1, 2).reshape(b, t, -1)
        x = x + functional.linear(y, w[p + "self_attn.o_proj.weight"])
        y = functional.rms_norm(x, (shape.hidden,), w[p + "post_attention_layernorm.weight"], 1e-5)
        gate, up = functional.linear(y, w[p + "mlp.gate_up_proj.weight"]).chunk(2, -1)
        x = x + functional.linear(functional.silu(gate) * up, w[p + "mlp.down_proj.weight"])
        if i == shape.layers // 2 - 1:
            middle = functional.rms_norm(x, (shape.hidden,))
    return functional.rms_norm(x, (shape.hidden,), w["model.norm.weight"], 1e-5), middle
