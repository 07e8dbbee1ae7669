"""Where on the device everything of a decoder lies, worked out from its engine before anything is allocated.

    caches   2 x layers slots, one every `pitch_bytes`: keys and values, zeros at first, never copied to the host
    inputs   one row (or chunk) of embeddings, its positions, the row that counts: one piece, copied by one call
    logits   of the last row, the one thing that comes back
    rows     in the conservative dialect: new rows of all slots, until they are copied into the caches

An engine addresses whatever it is given; nothing but this plan says how large it is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phiedge.bundle import ModelFacts
from phiedge.engines.tensorrt.bindings import Binding, check_bindings, mismatch, profile_sizes
from phiedge.engines.tensorrt.capabilities import CONSERVATIVE_DIALECT
from phiedge.engines.tensorrt.device_memory import ALIGNMENT_BYTES, LineCopy, aligned
from phiedge.engines.tensorrt.ports import decoder_ports

STEP, CHUNK = 0, 1  # the two profiles
ACTIVATION, POSITION, LOGIT = np.dtype(np.float16), np.dtype(np.int64), np.dtype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputLayout:
    """Where the three inputs of a run of `rows` rows lie in their piece, from its beginning."""

    rows: int
    hidden: int

    @property
    def positions(self) -> int:
        """The offset of `position_ids`; embeddings are at 0."""
        return aligned(self.rows * self.hidden * ACTIVATION.itemsize)

    @property
    def last_row(self) -> int:
        """The offset of `last_row`."""
        return self.positions + aligned(self.rows * POSITION.itemsize)

    @property
    def size_bytes(self) -> int:
        """All three."""
        return self.last_row + POSITION.itemsize

    @property
    def addresses(self) -> dict[str, int]:
        """The offset of each input by its name."""
        return {"inputs_embeds": 0, "position_ids": self.positions, "last_row": self.last_row}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderPlan:
    """Sizes of everything that a decoder engine is bound to. `in_place` says that it writes its caches itself."""

    slots: tuple[str, ...]
    capacity: int
    chunk_tokens: int
    hidden: int
    vocab: int
    kv_heads: int
    head_bytes: int  # what one position takes in one head of one slot
    in_place: bool

    @property
    def step(self) -> InputLayout:
        """The inputs of a decode step."""
        return InputLayout(rows=1, hidden=self.hidden)

    @property
    def chunk(self) -> InputLayout:
        """The inputs of a chunk."""
        return InputLayout(rows=self.chunk_tokens, hidden=self.hidden)

    @property
    def heads(self) -> int:
        """Room for as many heads in a slot. New rows are put into all heads of all slots by one copy, for which heads
        follow each other evenly: where a slot of them would end between two addresses, it has a few more.
        """
        even = 1 if self.in_place else ALIGNMENT_BYTES // math.gcd(ALIGNMENT_BYTES, self.head_bytes)
        return -(-self.kv_heads // even) * even

    @property
    def pitch_bytes(self) -> int:
        """From one slot of the caches to the next."""
        return aligned(self.heads * self.capacity * self.head_bytes)

    @property
    def cache_bytes(self) -> int:
        """All slots."""
        return len(self.slots) * self.pitch_bytes

    @property
    def logits_bytes(self) -> int:
        """The logits of one row."""
        return self.vocab * LOGIT.itemsize

    def rows_pitch_bytes(self, rows: int) -> int:
        """From the new rows of one slot to those of the next, after a run of `rows` rows."""
        return aligned(self.heads * rows * self.head_bytes)

    @property
    def rows_bytes(self) -> int:
        """Room for the new rows of a chunk; none where caches are written in place."""
        return 0 if self.in_place else len(self.slots) * self.rows_pitch_bytes(self.chunk_tokens)

    @property
    def total_bytes(self) -> int:
        """All that is allocated for the decoder beside its weights and the scratch of its kernels."""
        inputs = aligned(self.step.size_bytes) + aligned(self.chunk.size_bytes)
        return self.cache_bytes + self.rows_bytes + inputs + aligned(self.logits_bytes)

    def caches(self, base: int) -> dict[str, int]:
        """The address of each slot in caches that begin at `base`."""
        return {slot: base + index * self.pitch_bytes for index, slot in enumerate(self.slots)}

    def new_rows(self, base: int, *, rows: int) -> dict[str, int]:
        """The address of each slot's new rows in a piece that begins at `base`."""
        return {slot: base + index * self.rows_pitch_bytes(rows) for index, slot in enumerate(self.slots)}

    def into_cache(self, *, rows_at: int, caches_at: int, rows: int, used: int, past: int) -> LineCopy:
        """The copy of the first `used` of a run's `rows` new rows into the caches, from position `past` on."""
        assert 0 < used <= rows
        assert past + used <= self.capacity
        return LineCopy(
            source=rows_at,
            source_pitch_bytes=rows * self.head_bytes,
            target=caches_at + past * self.head_bytes,
            target_pitch_bytes=self.capacity * self.head_bytes,
            line_bytes=used * self.head_bytes,
            lines=len(self.slots) * self.heads,
        )


def plan_decoder(
    path: Path, bindings: Mapping[str, Binding], facts: ModelFacts, *, dialect: str, capacity: int
) -> DecoderPlan:
    """The plan of a decoder engine of `dialect` with `capacity` positions.

    Raises `BundleError` naming what the engine has and what the manifest needs.
    """
    ports = decoder_ports(facts, dialect=dialect, capacity=capacity)
    check_bindings(path, bindings, ports)
    sizes = profile_sizes(path, bindings, ports)
    if len(sizes) != 2 or sizes[STEP] != (1, 1) or sizes[CHUNK][0] != sizes[CHUNK][1]:
        raise mismatch(path, f"profiles of {sizes} rows", "one of (1, 1) and one of a chunk, which has one size")
    chunk_tokens = sizes[CHUNK][0]
    if chunk_tokens > capacity:
        raise mismatch(path, f"chunks of {chunk_tokens} rows", f"{capacity} at most, which is what the cache holds")
    return DecoderPlan(
        slots=tuple(f"{layer}.{side}" for layer in range(facts.num_layers) for side in ("key", "value")),
        capacity=capacity,
        chunk_tokens=chunk_tokens,
        hidden=facts.hidden_size,
        vocab=facts.vocab_size,
        kv_heads=facts.num_kv_heads,
        head_bytes=facts.head_dim * ACTIVATION.itemsize,
        in_place=dialect != CONSERVATIVE_DIALECT,
    )
