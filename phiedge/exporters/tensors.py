"""Every tensor that a checkpoint of this architecture has, with its shape and whether inference uses it.

The model takes its picture features before the last vision block, so that block, the norm after it and the pooling
head are in every checkpoint and used by nobody. What is in neither group is an error. Source: the publisher's modelling
code; for the 15B the table has 695 entries and 15 119 518 144 parameters.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from phiedge.exporters.config import ModelConfig

TOWER_PREFIX = "model.vision_tower.vision_tower.vision_model."
POSITION_TABLE = TOWER_PREFIX + "embeddings.position_embedding.weight"
EMBEDDING_TABLE = "model.embed_tokens.weight"
CHANNELS = 3


def vision_tensor(parameter: str) -> str:
    """The checkpoint tensor that fills `parameter` of the vision graph."""
    if parameter.startswith("tower."):
        return TOWER_PREFIX + parameter.removeprefix("tower.")
    return "model." + parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """What the architecture expects of one tensor: its shape (rows first), and whether inference uses it."""

    shape: tuple[int, ...]
    used: bool

    @property
    def parameters(self) -> int:
        """The number of elements."""
        count = 1
        for side in self.shape:
            count *= side
        return count


Shapes: TypeAlias = Iterator[tuple[str, tuple[int, ...]]]


def expected_tensors(config: "ModelConfig") -> Iterator[tuple[str, TensorSpec]]:
    """Every tensor's name and expectation: the used ones in the order of the forward pass, then the others.

    One at a time, so that a configuration with an absurd number of layers costs no more than its first missing tensor.
    """
    for name, shape in _used(config):
        yield name, TensorSpec(shape=shape, used=True)
    for name, shape in _unused(config):
        yield name, TensorSpec(shape=shape, used=False)


def _used(config: "ModelConfig") -> Shapes:
    hidden, width = config.hidden_size, config.vision_hidden_size
    yield from _linear(f"{TOWER_PREFIX}embeddings.patch_embedding", width, CHANNELS * config.patch_size**2)
    yield POSITION_TABLE, (config.position_grid**2, width)
    for index in range(config.vision_layers_used):
        yield from _vision_block(config, index)
    yield from _linear("model.mm_projector.0", hidden, width)
    yield from _linear("model.mm_projector.2", hidden, hidden)
    yield EMBEDDING_TABLE, (config.vocab_size, hidden)
    for index in range(config.num_layers):
        yield from _decoder_layer(config, index)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (config.vocab_size, hidden)


def _unused(config: "ModelConfig") -> Shapes:
    width = config.vision_hidden_size
    for index in range(config.vision_layers_used, config.vision_layers):
        yield from _vision_block(config, index)
    yield from _pair(f"{TOWER_PREFIX}post_layernorm", (width,))
    if config.vision_has_head:
        head = f"{TOWER_PREFIX}head."
        yield f"{head}probe", (1, 1, width)
        yield f"{head}attention.in_proj_weight", (3 * width, width)
        yield f"{head}attention.in_proj_bias", (3 * width,)
        yield from _linear(f"{head}attention.out_proj", width, width)
        yield from _pair(f"{head}layernorm", (width,))
        yield from _linear(f"{head}mlp.fc1", config.vision_intermediate_size, width)
        yield from _linear(f"{head}mlp.fc2", width, config.vision_intermediate_size)


def _vision_block(config: "ModelConfig", index: int) -> Shapes:
    block, width = f"{TOWER_PREFIX}encoder.layers.{index}.", config.vision_hidden_size
    yield from _pair(f"{block}layer_norm1", (width,))
    for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
        yield from _linear(f"{block}self_attn.{part}", width, width)
    yield from _pair(f"{block}layer_norm2", (width,))
    yield from _linear(f"{block}mlp.fc1", config.vision_intermediate_size, width)
    yield from _linear(f"{block}mlp.fc2", width, config.vision_intermediate_size)


def _decoder_layer(config: "ModelConfig", index: int) -> Shapes:
    layer, hidden = f"model.layers.{index}.", config.hidden_size
    heads_size = config.num_heads * config.head_dim
    fused_size = heads_size + 2 * config.num_kv_heads * config.head_dim  # rows of Q, then K, then V
    yield f"{layer}input_layernorm.weight", (hidden,)
    yield f"{layer}self_attn.qkv_proj.weight", (fused_size, hidden)
    yield f"{layer}self_attn.o_proj.weight", (hidden, heads_size)
    yield f"{layer}post_attention_layernorm.weight", (hidden,)
    yield f"{layer}mlp.gate_up_proj.weight", (2 * config.intermediate_size, hidden)  # rows of gate, then up
    yield f"{layer}mlp.down_proj.weight", (hidden, config.intermediate_size)


def _linear(name: str, rows: int, columns: int) -> Shapes:
    yield f"{name}.weight", (rows, columns)
    yield f"{name}.bias", (rows,)


def _pair(name: str, shape: tuple[int, ...]) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape
