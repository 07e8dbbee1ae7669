"""Weights as Hugging Face's libraries write them: bfloat16 in safetensors shards of at most 5 GB, with their index.

A shard takes tensors in the order of the publisher's modules (the state dict) until the next one would not fit; inside
a shard tensors stand by name. For the 15B this gives the seven published shards.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from phiedge.exporters.config import ModelConfig
from phiedge.exporters.random_tensors import RandomTensors
from phiedge.exporters.tensors import TensorSpec

SHARD_BYTES = 5_000_000_000
INDEX_FILE = "model.safetensors.index.json"
_BLOCK_BYTES = 16 << 20
_ITEM_BYTES = 2  # bfloat16
# Within a decoder layer, in the order in which the publisher's modules are made.
_LAYER_ORDER = (
    *("self_attn.o_proj", "self_attn.qkv_proj", "mlp.gate_up_proj", "mlp.down_proj"),
    *("input_layernorm", "post_attention_layernorm"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file and its tensors, in the order in which they stand in it."""

    file: str
    names: tuple[str, ...]
    tensors_bytes: int


def state_dict_order(config: ModelConfig) -> Iterator[str]:
    """Every tensor's name: embeddings, decoder, final norm, vision, projector, head."""
    rest = [name for name in config.tensors() if name.startswith("model.vision_tower.")]
    rest += [name for name in config.tensors() if name.startswith("model.mm_projector.")]
    yield "model.embed_tokens.weight"
    for layer in range(config.num_layers):
        for part in _LAYER_ORDER:
            yield f"model.layers.{layer}.{part}.weight"
    yield "model.norm.weight"
    yield from rest
    yield "lm_head.weight"


def plan_shards(config: ModelConfig, *, shard_bytes: int = SHARD_BYTES) -> tuple[Shard, ...]:
    """Which tensors go into which file. A tensor larger than a shard has one for itself."""
    tensors = config.tensors()
    groups: list[list[str]] = [[]]
    held_bytes = 0
    for name in state_dict_order(config):
        size_bytes = _ITEM_BYTES * tensors[name].parameters
        if groups[-1] and held_bytes + size_bytes > shard_bytes:
            groups.append([])
            held_bytes = 0
        groups[-1].append(name)
        held_bytes += size_bytes
    assert sum(map(len, groups)) == len(tensors), "the order names every tensor once"
    return tuple(
        Shard(
            file=f"model-{number:05d}-of-{len(groups):05d}.safetensors",
            names=tuple(sorted(names)),
            tensors_bytes=sum(_ITEM_BYTES * tensors[name].parameters for name in names),
        )
        for number, names in enumerate(groups, start=1)
    )


def write_shards(
    directory: Path, config: ModelConfig, *, seed: int, shard_bytes: int = SHARD_BYTES
) -> tuple[Shard, ...]:
    """Write the shards and their index; the index comes last, so that without it nothing is whole."""
    shards, tensors = plan_shards(config, shard_bytes=shard_bytes), config.tensors()
    weights = RandomTensors(config, seed=seed)
    (directory / INDEX_FILE).unlink(missing_ok=True)
    for shard in shards:
        write_file(directory / shard.file, shard.names, tensors, weights)
    homes = {name: shard.file for shard in shards for name in shard.names}
    total_bytes = sum(shard.tensors_bytes for shard in shards)
    index = {"metadata": {"total_size": total_bytes}, "weight_map": dict(sorted(homes.items()))}
    (directory / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return shards


def write_file(path: Path, names: Sequence[str], tensors: Mapping[str, TensorSpec], weights: RandomTensors) -> None:
    """One safetensors file in bfloat16, at once given its whole length."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        start, end = end, end + _ITEM_BYTES * tensors[name].parameters
        header[name] = {"dtype": "BF16", "shape": list(tensors[name].shape), "data_offsets": [start, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, 8 + len(encoded) + end)
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name in names:
            for rows in _blocks(tensors[name].shape):
                file.write(weights.tensor(name, rows).data)


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    row_bytes = _ITEM_BYTES
    for side in shape[1:]:
        row_bytes *= side
    step = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))
