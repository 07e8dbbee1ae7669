"""A text model's checkpoint as a Llama of transformers in float32, from weights that a test has unpacked itself."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM


def llama_logits(directory: Path, weights: Mapping[str, np.ndarray], tokens: Sequence[int]) -> np.ndarray:
    """The next token's logits after `tokens`; every weight of the model must be among `weights`, and no other."""
    config = json.loads((directory / "config.json").read_text())
    config.pop("quantization_config", None)
    config.pop("torch_dtype", None)
    model = LlamaForCausalLM(LlamaConfig(**config))
    values = {name: torch.from_numpy(np.array(array, np.float32)) for name, array in weights.items()}
    model.load_state_dict(values, strict=True)
    with torch.no_grad():
        return model.eval()(torch.tensor([list(tokens)])).logits[0, -1].numpy()


def bfloat16(bits: np.ndarray) -> np.ndarray:
    """float32 of bfloat16's bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of a file, bfloat16 as float32, FP8 as bytes, by a reader that shares nothing with the writer."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    kinds = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I32": "<i4", "I64": "<i8", "I8": "i1", "U8": "u1"}
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, stop = (8 + length + offset for offset in entry["data_offsets"])
            array = np.frombuffer(data[first:stop], kinds.get(entry["dtype"], "u1")).reshape(entry["shape"])
            found[name] = bfloat16(array) if entry["dtype"] == "BF16" else array
    return found
