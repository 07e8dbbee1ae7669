"""What the weights of a bundle for a GPU are as float32, read with the ONNX library: what its checkpoints must say."""

from functools import cache
from pathlib import Path

import numpy as np
import onnx


@cache
def decoder_numbers(bundle: Path) -> dict[str, np.ndarray]:
    """Every linear, dequantised, and every norm of the decoder, float32, by the checkpoint's names."""
    graph = onnx.load(bundle / "decoder.tensorrt.onnx").graph
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    found = {name: array for name, array in stored.items() if name.endswith("norm.weight")}
    for name, array in stored.items():
        linear, mark, _ = name.rpartition(".int4")
        if mark:
            codes, scales = array.astype(np.float32), stored[f"{linear}.scales"].astype(np.float32)
            found[linear] = codes * np.repeat(scales, codes.shape[1] // scales.shape[1], axis=1)
    return found


def unfused_numbers(bundle: Path, heads: int, kv_heads: int, head_dim: int) -> dict[str, np.ndarray]:
    """The same with q, k, v, gate and up apart, as a Llama has them."""
    found = {}
    for name, array in decoder_numbers(bundle).items():
        if name.endswith("qkv_proj.weight"):
            cuts = np.split(array, [heads * head_dim, (heads + kv_heads) * head_dim])
            found |= {name.replace("qkv", letter): cut for letter, cut in zip("qkv", cuts, strict=True)}
        elif name.endswith("gate_up_proj.weight"):
            gate, up = np.split(array, 2)
            found |= {name.replace("gate_up", "gate"): gate, name.replace("gate_up", "up"): up}
        else:
            found[name] = array
    return found
