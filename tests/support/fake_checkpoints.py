"""Checkpoint directories with random weights, for tests: any dimensions, any stored type, one file or shards.

    write_checkpoint(tmp_path / "model", FakeDims(num_layers=1), dtype="bfloat16", shards=3)

The safetensors writer here is a few lines on purpose and shares nothing with the reader that it tests; the tensor list
does come from `ModelConfig.tensors`, whose exactness is tested against the oracle checkpoint and the published totals.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from phiedge.exporters.config import ModelConfig

Dtype = Literal["float32", "float16", "bfloat16"]
SAFETENSORS_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
BYTE_PIECES = 256
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_sep|>",
    "<|dummy_84|>",
    "<|dummy_85|>",
    "<think>",
    "</think>",
)
TEMPLATE = (
    "<|im_start|>system<|im_sep|>Answer.<|im_end|>\n"
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}<|im_sep|>{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class FakeDims:
    """Sizes under their names in config.json; small enough for milliseconds, unequal enough to tell axes apart."""

    hidden_size: int = 64
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    intermediate_size: int = 96
    vocab_size: int = 272
    vision_hidden_size: int = 48
    vision_intermediate_size: int = 80
    vision_num_attention_heads: int = 3
    vision_num_hidden_layers: int = 3
    patch_size: int = 16


def fake_config(dims: FakeDims) -> dict[str, object]:
    """The config.json of such a checkpoint, with every key that the publisher writes and inference uses."""
    sizes = asdict(dims)
    vision = {key.removeprefix("vision_"): sizes.pop(key) for key in list(sizes) if key.startswith("vision_")}
    return {
        "architectures": ["Phi4ForCausalLMV"],
        "attention_bias": False,
        "bos_token_id": token_id("<|endoftext|>"),
        "dtype": "bfloat16",
        "eos_token_id": token_id("<|im_end|>"),
        "hidden_act": "silu",
        "max_num_patches": 3600,
        "max_position_embeddings": 32768,
        "min_num_patches": 256,
        "mm_hidden_size": dims.vision_hidden_size,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_tower": "google/siglip2-so400m-patch16-naflex",
        "model_type": "phi4-siglip",
        "pad_token_id": token_id("<|dummy_85|>"),
        "partial_rotary_factor": 1.0,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 500000,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "tokenizer_model_max_length": 8192,
        "vision_config": vision | {"model_type": "siglip2_vision_model", "patch_size": sizes.pop("patch_size")},
    } | sizes


def fake_tokenizer() -> dict[str, object]:
    """A byte-level tokenizer without merges: every byte is a token, and the special tokens follow."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(content) for content in SPECIAL_TOKENS],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": dict(_byte_vocabulary()), "merges": []},
    }


def token_id(content: str) -> int:
    """The id of a special token of `fake_tokenizer`."""
    return BYTE_PIECES + SPECIAL_TOKENS.index(content)


def write_checkpoint(
    path: Path,
    dims: FakeDims | None = None,
    *,
    dtype: Dtype = "bfloat16",
    shards: int = 1,
    seed: int = 0,
    replace: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write a whole checkpoint directory at `path` and return it.

    Values are normal with a standard deviation of 0.05, norms around 1; `replace` gives tensors (float32) their values,
    also of a wrong shape or under a name that does not belong. Tensors are dealt to `shards` files in order.
    """
    dims = dims or FakeDims()
    path.mkdir(parents=True)
    config = fake_config(dims) | {"dtype": dtype}
    _write_json(path / "config.json", config)
    _write_json(path / "tokenizer.json", fake_tokenizer())
    _write_json(
        path / "generation_config.json", {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "eos_token_id": [258]}
    )
    (path / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    tensors = random_tensors(ModelConfig.from_json(config), seed) | dict(replace or {})
    names = list(tensors)
    if shards == 1:
        write_safetensors(path / "model.safetensors", tensors, dtype)
        return path
    weight_map: dict[str, str] = {}
    for index in range(shards):
        file = path / f"model-{index + 1:05d}-of-{shards:05d}.safetensors"
        part = names[index * len(names) // shards : (index + 1) * len(names) // shards]
        write_safetensors(file, {name: tensors[name] for name in part}, dtype)
        weight_map |= dict.fromkeys(part, file.name)
    _write_json(path / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    return path


def random_tensors(config: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    """Seeded float32 values for every tensor of the architecture, also the unused ones."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name, spec in config.tensors().items():
        values = random.standard_normal(spec.shape, dtype=np.float32) * np.float32(0.05)
        is_norm = "norm" in name.split(".")[-2] and name.endswith("weight")
        tensors[name] = values + np.float32(1) if is_norm else values
    return tensors


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], dtype: Dtype) -> None:
    """Write float32 arrays as one safetensors file of the given stored type."""
    header, parts, end = {}, [], 0
    for name, values in tensors.items():
        part = stored_bits(values, dtype).tobytes()
        header[name] = {
            "dtype": SAFETENSORS_NAMES[dtype],
            "shape": list(values.shape),
            "data_offsets": [end, end + len(part)],
        }
        parts.append(part)
        end += len(part)
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + b"".join(parts))


def stored_bits(values: np.ndarray, dtype: Dtype) -> np.ndarray:
    """The values as they are stored; bfloat16 as its bits, cut off instead of rounded."""
    if dtype == "bfloat16":
        return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype("<u2")
    return values.astype({"float32": "<f4", "float16": "<f2"}[dtype])


def _added_token(content: str) -> dict[str, object]:
    control = content.startswith("<|")
    return {
        "id": token_id(content),
        "content": content,
        "single_word": False,
        "lstrip": control,
        "rstrip": control,
        "normalized": False,
        "special": control,
    }


def _byte_vocabulary() -> list[tuple[str, int]]:
    """The 256 characters that byte-level BPE writes for bytes: printable ones as they are, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]
    return [(character, index) for index, character in enumerate(characters)]


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
