"""Writes a checkpoint of this architecture with random weights, and its decoder once more under the name of Phi-3.

The two directories share one weight file: `checkpoint/` is what phiedge reads, `phi3/` is what a builder that knows
Phi-3 reads. The tokenizer is the small one of the tests; its ids lie at the bottom of the vocabulary.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phiedge.exporters.config import ModelConfig
from phiedge.exporters.tensors import TensorSpec

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


def write(directory: Path, shape: DecoderShape, *, seed: int = 0) -> RandomCheckpoint:
    """Write both directories below `directory`, or find them there complete."""
    checkpoint, phi3 = directory / "checkpoint", directory / "phi3"
    checkpoint.mkdir(parents=True, exist_ok=True)
    phi3.mkdir(exist_ok=True)
    config = _config(shape)
    (checkpoint / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    (phi3 / "config.json").write_text(json.dumps(_phi3_config(config), indent=1), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        for target in (checkpoint, phi3):
            shutil.copyfile(_TEMPLATE / name, target / name)

    tensors = ModelConfig.from_dir(checkpoint).tensors()
    text = {name: spec for name, spec in tensors.items() if _is_text(name)}
    vision = {name: spec for name, spec in tensors.items() if not _is_text(name)}
    if not (checkpoint / "model.safetensors.index.json").is_file():
        _write_weights(checkpoint / _TEXT, text, np.random.default_rng(seed))
        _write_weights(checkpoint / _VISION, vision, np.random.default_rng(seed + 1))
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


def _phi3_config(config: Mapping[str, object]) -> dict[str, object]:
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


def _write_weights(path: Path, tensors: Mapping[str, TensorSpec], random: np.random.Generator) -> None:
    """One safetensors file in bfloat16: norms near 1, everything else small enough for activations to stay bounded."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, spec in tensors.items():
        end = offset + 2 * spec.parameters
        header[name] = {"dtype": "BF16", "shape": list(spec.shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name, spec in tensors.items():
            file.write(_random_bfloat16(name, spec.shape, random).data)


def _random_bfloat16(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    values = random.standard_normal(shape, dtype=np.float32)
    values *= np.float32(0.02)
    if "norm" in name and name.endswith("weight"):
        values += 1
    return (values.view(np.uint32) >> 16).astype("<u2")
