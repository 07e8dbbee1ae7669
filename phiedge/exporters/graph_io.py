"""What goes into each graph and what comes out: names, shapes, dynamic axes and types, stated once.

The tracer names its graphs by it, dialects keep the names but for what `positioned_decoder_io` says, and
`phiedge.exporters.optimum` tells them to Hugging Face Optimum. There is no batch: one image per call of the vision
graph, one sequence per call of the decoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from phiedge.exporters.config import ModelConfig

PortType: TypeAlias = Literal["float", "float32", "int32", "int64"]

# The dynamic axes: patches of one image, tokens of one call of the decoder, positions that the cache has room for.
PATCHES, CHUNK, CAPACITY = "patches", "chunk_tokens", "capacity"
# What the decoder of the tensorrt dialect is told in place of lengths.
POSITION_IDS, LAST_ROW = "position_ids", "last_row"


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One input or output. A name in `shape` is a dynamic axis; the type "float" is whatever the graph computes in."""

    name: str
    shape: tuple[int | str, ...]
    dtype: PortType

    @property
    def dynamic_axes(self) -> dict[int, str]:
        """Position to name of every axis whose size is known only at run time."""
        return {index: size for index, size in enumerate(self.shape) if isinstance(size, str)}

    def sized(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape with its dynamic axes replaced by `sizes`."""
        return tuple(sizes[size] if isinstance(size, str) else size for size in self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphIO:
    """The outside of one graph."""

    name: Literal["vision", "decoder"]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def vision_io(config: ModelConfig) -> GraphIO:
    """One image's patches (normalised, channel fastest) and its resized position table to rows for the decoder."""
    return GraphIO(
        name="vision",
        inputs=(
            Port(name="patches", shape=(PATCHES, 3 * config.patch_size**2), dtype="float"),
            Port(name="pos_embed", shape=(PATCHES, config.vision_hidden_size), dtype="float"),
        ),
        outputs=(Port(name="features", shape=(PATCHES, config.hidden_size), dtype="float"),),
    )


def decoder_io(config: ModelConfig) -> GraphIO:
    """Embedded tokens and the cache to the last token's logits and the cache, which is written in place.

    `seqlens_k` is one less than the number of positions that are valid after the call, `total_sequence_length` that
    number itself. Keys are cached after rotation.
    """
    cache = (1, config.num_kv_heads, CAPACITY, config.head_dim)
    slots = [f"{layer}.{part}" for layer in range(config.num_layers) for part in ("key", "value")]
    return GraphIO(
        name="decoder",
        inputs=(
            Port(name="inputs_embeds", shape=(1, CHUNK, config.hidden_size), dtype="float"),
            Port(name="seqlens_k", shape=(1,), dtype="int32"),
            Port(name="total_sequence_length", shape=(), dtype="int32"),
            *(Port(name=f"past.{slot}", shape=cache, dtype="float") for slot in slots),
        ),
        outputs=(
            Port(name="logits", shape=(1, 1, config.vocab_size), dtype="float32"),
            *(Port(name=f"present.{slot}", shape=cache, dtype="float") for slot in slots),
        ),
    )


def positioned_decoder_io(config: ModelConfig, *, max_context: int) -> GraphIO:
    """The decoder of the tensorrt dialect: caches of a fixed capacity, and positions in place of lengths.

    `position_ids` [1, t] are the cache rows of the chunk's rows, one after the other, and `last_row` [1] is the row of
    the chunk whose logits are wanted. Rows of the chunk after it are padding: they are written to the cache, too, where
    no row that counts sees them, and the next chunk writes over them. All of a chunk must fit into the cache. Caches
    begin as zeros, for what is not seen is multiplied by zero.
    """
    io = decoder_io(config)
    embeds, _, _, *past = io.inputs
    logits, *present = io.outputs
    positions = Port(name=POSITION_IDS, shape=(1, CHUNK), dtype="int64")
    last_row = Port(name=LAST_ROW, shape=(1,), dtype="int64")
    return GraphIO(
        name="decoder",
        inputs=(embeds, positions, last_row, *(_fixed(port, max_context) for port in past)),
        outputs=(logits, *(_fixed(port, max_context) for port in present)),
    )


def row_output_decoder_io(config: ModelConfig, *, max_context: int) -> GraphIO:
    """The decoder of the conservative tensorrt dialect: caches are read, and `present.*` are new rows alone.

    As `positioned_decoder_io`, but that the host puts the rows into the caches after the run, [1, kv_heads, t, D] at
    their positions. What caches hold from the chunk's first position on is not seen.
    """
    io = positioned_decoder_io(config, max_context=max_context)
    logits, *_ = io.outputs
    return GraphIO(
        name="decoder", inputs=io.inputs, outputs=(logits, *(_rows(port) for port in decoder_io(config).outputs[1:]))
    )


def _rows(port: Port) -> Port:
    return Port(
        name=port.name, shape=tuple(CHUNK if side == CAPACITY else side for side in port.shape), dtype=port.dtype
    )


def _fixed(port: Port, capacity: int) -> Port:
    return Port(
        name=port.name, shape=tuple(capacity if side == CAPACITY else side for side in port.shape), dtype=port.dtype
    )
