"""An AWQ checkpoint whose projections lie in one tensor each, as the publisher's own layout has them.

Edge-LLM's exporter corrupts it and reports success. It is made from the checkpoint that phiedge writes, so that the
right answer is known.
"""

import json
import shutil
from pathlib import Path

import numpy as np

from phiedge.exporters.checkpoints.tensor_file import TensorOut, write_tensors
from text_models import read_safetensors

_FUSED = {"self_attn.qkv_proj": ("q_proj", "k_proj", "v_proj"), "mlp.gate_up_proj": ("gate_proj", "up_proj")}
_TYPES = {"int32": "I32", "float16": "F16", "float32": "F32", "uint16": "BF16"}


def write_fused(checkpoint: Path, out: Path) -> Path:
    """The checkpoint with query, key and value in one tensor, and gate and up: side by side along the outputs."""
    shutil.copytree(checkpoint, out, ignore=shutil.ignore_patterns("*.safetensors", "phiedge.json"))
    tensors = read_safetensors(checkpoint / "model.safetensors")
    for fused, parts in _FUSED.items():
        scope = fused.partition(".")[0]
        for name in [name for name in tensors if f".{scope}.{parts[0]}." in name]:
            names = [name.replace(parts[0], part) for part in parts]
            joined = np.concatenate([tensors.pop(part) for part in names], axis=1)
            tensors[name.replace(f"{scope}.{parts[0]}", fused)] = joined
    write_tensors(out, [TensorOut.of(name, _TYPES[str(array.dtype)], array) for name, array in tensors.items()])
    config = json.loads((out / "config.json").read_bytes())
    config |= {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"}
    config["original_max_position_embeddings"] = config["max_position_embeddings"]
    (out / "config.json").write_text(json.dumps(config))
    return out
