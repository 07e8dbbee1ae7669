"""The NaFlex vision tower and its projector, written for export: one image's patches in, decoder rows out.

Parameter names equal those of the checkpoint below `TOWER_PREFIX` and `model.`. Patches come in exact number, without
padding and mask; the host interpolates the position table. The last block, the final norm and the pooling head of the
checkpoint do not contribute to the model's features and are not built. Norms and the sums along the residual may have
another type than the linear layers, as in the decoder.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from phiedge.exporters.config import ModelConfig
from phiedge.exporters.tensors import CHANNELS


class VisionAttention(nn.Module):
    """Full bidirectional attention inside one image."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.vision_hidden_size
        self.heads = config.vision_heads
        self.scale = (size // self.heads) ** -0.5
        self.q_proj = nn.Linear(size, size)
        self.k_proj = nn.Linear(size, size)
        self.v_proj = nn.Linear(size, size)
        self.out_proj = nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.q_proj.weight.dtype)
        query, key, value = (proj(x).unsqueeze(0) for proj in (self.q_proj, self.k_proj, self.v_proj))
        attended, *_ = torch.onnx.ops.attention(
            query, key, value, q_num_heads=self.heads, kv_num_heads=self.heads, scale=self.scale
        )
        out: Tensor = self.out_proj(attended.squeeze(0))
        return out


class VisionMLP(nn.Module):
    """fc2(gelu(fc1(x))), with the tanh form of GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.vision_hidden_size, config.vision_intermediate_size)
        self.fc2 = nn.Linear(config.vision_intermediate_size, config.vision_hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(x.to(self.fc1.weight.dtype)), approximate="tanh"))
        return out


class VisionBlock(nn.Module):
    """One pre-norm block."""

    def __init__(self, config: ModelConfig, norms: torch.dtype | None) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.vision_hidden_size, eps=config.vision_layer_norm_eps, dtype=norms)
        self.self_attn = VisionAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.vision_hidden_size, eps=config.vision_layer_norm_eps, dtype=norms)
        self.mlp = VisionMLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x)).to(x.dtype)
        out: Tensor = x + self.mlp(self.layer_norm2(x)).to(x.dtype)
        return out


class VisionEmbeddings(nn.Module):
    """Patches to rows; the checkpoint has a linear layer here, not a convolution."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch_embedding = nn.Linear(CHANNELS * config.patch_size**2, config.vision_hidden_size)

    def forward(self, patches: Tensor, pos_embed: Tensor) -> Tensor:
        out: Tensor = self.patch_embedding(patches) + pos_embed
        return out


class VisionBlocks(nn.Module):
    """The blocks in use."""

    def __init__(self, config: ModelConfig, norms: torch.dtype | None) -> None:
        super().__init__()
        self.norms = torch.get_default_dtype() if norms is None else norms
        self.layers = nn.ModuleList(VisionBlock(config, self.norms) for _ in range(config.vision_layers_used))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.norms)
        for block in self.layers:
            x = block(x)
        return x


class VisionTower(nn.Module):
    """Patch embedding and blocks: `TOWER_PREFIX` of the checkpoint."""

    def __init__(self, config: ModelConfig, norms: torch.dtype | None) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.encoder = VisionBlocks(config, norms)

    def forward(self, patches: Tensor, pos_embed: Tensor) -> Tensor:
        features: Tensor = self.encoder(self.embeddings(patches, pos_embed))
        return features


class VisionEncoder(nn.Module):
    """The vision graph: tower, then projector. Norms and residual are of the type `norms`, as in `Decoder`."""

    def __init__(self, config: ModelConfig, *, norms: torch.dtype | None = None) -> None:
        super().__init__()
        self.tower = VisionTower(config, norms)
        self.mm_projector = nn.Sequential(
            nn.Linear(config.vision_hidden_size, config.hidden_size),
            nn.GELU(),  # the exact erf form, unlike the tower's
            nn.Linear(config.hidden_size, config.hidden_size),
        )

    def forward(self, patches: Tensor, pos_embed: Tensor) -> Tensor:
        """patches: [n, 3 * p * p], one row per patch, (y, x, channel) with channel fastest, normalised to [-1, 1].

        pos_embed: [n, C], the position table resized to the image's grid. Returns [n, hidden of the decoder].
        """
        features = self.tower(patches, pos_embed).to(pos_embed.dtype)
        rows: Tensor = self.mm_projector(features)
        return rows
