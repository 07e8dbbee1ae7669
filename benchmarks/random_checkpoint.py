"""Checkpoints of this architecture with random weights: the published size, or a decoder of any size with a twin.

    python -m benchmarks.random_checkpoint DIR

writes 30 GB as the 15B is published: seven shards and their index, configuration, tokenizer and template. The values
are those of `phiedge export --random-weights` with the same seed; the tokenizer is its stand-in.

`write` is for comparisons with a builder that knows Phi-3: two directories that share one weight file, `checkpoint/`
for phiedge and `phi3/` for the other. Their tokenizer is the small one of the tests; its ids lie at the bottom of the
vocabulary.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sharded_files import SHARD_BYTES, write_file, write_shards
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.random_tensors import RandomTensors
from phiedge.exporters.stand_in import TEMPLATE, stand_in_tokenizer
from phiedge.exporters.tensors import TensorSpec
from tests.support.published import PUBLISHED_CONFIG, PUBLISHED_GENERATION, PUBLISHED_PREPROCESSOR

_TEMPLATE = Path(__file__).parents[1] / "tests" / "oracle" / "tiny"
_TEXT = "model-decoder.safetensors"
_VISION = "model-vision.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape:
    """The sizes of the text decoder; the vision part is always the tests' tiny one."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int

    def __post_init__(self) -> None:
        assert self.hidden % self.heads == 0, "a head is a whole part of the hidden size"
        assert self.vocab >= 512, "the tokenizer has 512 ids"


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomCheckpoint:
    """Where the two directories are, and how many parameters the decoder has."""

    checkpoint: Path
    phi3: Path
    decoder_parameters: int


def write_published(
    directory: Path, config: Mapping[str, object] = PUBLISHED_CONFIG, *, seed: int = 0, shard_bytes: int = SHARD_BYTES
) -> int:
    """Write a directory as the 15B is published, for `config` as in config.json; return the bytes of its weights."""
    directory.mkdir(parents=True, exist_ok=True)
    known = ModelConfig.from_json(dict(config))
    tokenizer = stand_in_tokenizer(known.tokens, known.vocab_size)
    contents = {
        "config.json": config,
        "generation_config.json": PUBLISHED_GENERATION
        | {key: config[key] for key in PUBLISHED_GENERATION if key in config},
        "preprocessor_config.json": PUBLISHED_PREPROCESSOR,
        "tokenizer.json": tokenizer,
    }
    for name, content in contents.items():
        (directory / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (directory / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return sum(shard.tensors_bytes for shard in write_shards(directory, known, seed=seed, shard_bytes=shard_bytes))


def write(directory: Path, shape: DecoderShape, *, seed: int = 0) -> RandomCheckpoint:
    """Write both directories below `directory`, or find them there complete."""
    checkpoint, phi3 = directory / "checkpoint", directory / "phi3"
    checkpoint.mkdir(parents=True, exist_ok=True)
    phi3.mkdir(exist_ok=True)
    config = _config(shape)
    (checkpoint / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    (phi3 / "config.json").write_text(json.dumps(phi3_config(config), indent=1), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        for target in (checkpoint, phi3):
            shutil.copyfile(_TEMPLATE / name, target / name)

    known = ModelConfig.from_dir(checkpoint)
    tensors = known.tensors()
    text = {name: spec for name, spec in tensors.items() if _is_text(name)}
    vision = {name: spec for name, spec in tensors.items() if not _is_text(name)}
    if not (checkpoint / "model.safetensors.index.json").is_file():
        weights = RandomTensors(known, seed=seed)
        write_file(checkpoint / _TEXT, tuple(text), tensors, weights)
        write_file(checkpoint / _VISION, tuple(vision), tensors, weights)
        homes = dict.fromkeys(text, _TEXT) | dict.fromkeys(vision, _VISION)
        index = {"metadata": {"total_size": 2 * _count(tensors)}, "weight_map": homes}
        (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    if not (phi3 / "model.safetensors").exists():
        os.link(checkpoint / _TEXT, phi3 / "model.safetensors")
    return RandomCheckpoint(checkpoint=checkpoint, phi3=phi3, decoder_parameters=_count(text))


def _is_text(name: str) -> bool:
    return not name.startswith(("model.vision_tower.", "model.mm_projector."))


def _count(tensors: Mapping[str, TensorSpec]) -> int:
    return sum(spec.parameters for spec in tensors.values())


def _config(shape: DecoderShape) -> dict[str, object]:
    config: dict[str, object] = json.loads((_TEMPLATE / "config.json").read_text(encoding="utf-8"))
    return config | {
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.intermediate,
        "vocab_size": shape.vocab,
        "dtype": "bfloat16",
    }


def phi3_config(config: Mapping[str, object]) -> dict[str, object]:
    """What of this architecture's configuration a builder of Phi-3 knows."""
    kept = (
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size"),
        *("vocab_size", "rms_norm_eps", "rope_theta", "max_position_embeddings", "original_max_position_embeddings"),
        *(
            "bos_token_id",
            "eos_token_id",
            "pad_token_id",
            "hidden_act",
            "tie_word_embeddings",
            "sliding_window",
            "dtype",
        ),
    )
    return {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"} | {key: config[key] for key in kept}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a checkpoint directory with random weights; 30 GB by default.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--config", type=Path, help="another config.json than the published one")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    config = json.loads(options.config.read_text(encoding="utf-8")) if options.config else PUBLISHED_CONFIG
    begin_ns = time.perf_counter_ns()
    written_bytes = write_published(options.directory, config, seed=options.seed)
    seconds = (time.perf_counter_ns() - begin_ns) / 1e9
    rate_gbps = written_bytes / 1e9 / seconds
    print(f"{options.directory}: {written_bytes / 1e9:.2f} GB in {seconds:.0f} s, {rate_gbps:.2f} GB/s")


if __name__ == "__main__":
    main()
