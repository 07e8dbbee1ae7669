"""What goes into the engines of a model and what comes out: names, types and shapes, by the facts of its bundle.

The exporter says the same of the graphs that it writes. It is said here again because a device has no exporter, and so
that a graph which is not as an engine must be is found before hours go into building it.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from phiedge.bundle import ModelFacts
from phiedge.engines.tensorrt.capabilities import CONSERVATIVE_DIALECT

PortType: TypeAlias = Literal["float16", "float32", "int64"]

ANY = -1  # a side whose size is chosen with every run, within the engine's profiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: PortType

    def sized(self, size: int) -> tuple[int, ...]:
        """The shape, with `size` in place of the side that is chosen with every run."""
        return tuple(size if side == ANY else side for side in self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The outside of an engine."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def vision_ports(facts: ModelFacts) -> Ports:
    """Patches and their positions to rows for the decoder."""
    return Ports(
        inputs=(
            Port(name="patches", shape=(ANY, 3 * facts.patch_size**2), dtype="float16"),
            Port(name="pos_embed", shape=(ANY, facts.vision_hidden_size), dtype="float16"),
        ),
        outputs=(Port(name="features", shape=(ANY, facts.hidden_size), dtype="float16"),),
    )


def decoder_ports(facts: ModelFacts, *, dialect: str, capacity: int) -> Ports:
    """A chunk of rows to the logits of one of them, beside the cache.

    In the modern dialect `present.*` is `past.*`, written in place; in the conservative one it is the chunk's new rows
    alone, which the runtime puts into the cache.
    """
    past = (1, facts.num_kv_heads, capacity, facts.head_dim)
    rows = ANY if dialect == CONSERVATIVE_DIALECT else capacity
    present = (1, facts.num_kv_heads, rows, facts.head_dim)
    slots = [f"{layer}.{part}" for layer in range(facts.num_layers) for part in ("key", "value")]
    return Ports(
        inputs=(
            Port(name="inputs_embeds", shape=(1, ANY, facts.hidden_size), dtype="float16"),
            Port(name="position_ids", shape=(1, ANY), dtype="int64"),
            Port(name="last_row", shape=(1,), dtype="int64"),
            *(Port(name=f"past.{slot}", shape=past, dtype="float16") for slot in slots),
        ),
        outputs=(
            Port(name="logits", shape=(1, 1, facts.vocab_size), dtype="float32"),
            *(Port(name=f"present.{slot}", shape=present, dtype="float16") for slot in slots),
        ),
    )
