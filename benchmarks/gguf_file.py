"""Writes a decoder of the `ort` dialect, int4 in groups of 32, as a GGUF file for llama.cpp: the same weights, no loss.

Codes from -8 up and a float16 scale for 32 of them are Q4_0; the same at 8 bits is Q8_0. phiedge's scales are float16
numbers, so nothing is rounded. Source of the format: docs/gguf.md of ggml; of the blocks: ggml-common.h.
"""

import struct
from pathlib import Path

import numpy as np

from phiedge.engines.openvino.weights import read_weights

_ALIGNMENT = 32
_F32, _Q4_0, _Q8_0, _BF16 = 0, 2, 8, 30
_UINT32, _FLOAT32, _STRING = 4, 6, 8
_LAYER = {
    "attn_norm": ("input_layernorm", None),
    "attn_qkv": ("self_attn.qkv_proj", 4),
    "attn_output": ("self_attn.o_proj", 4),
    "ffn_norm": ("post_attention_layernorm", None),
    "ffn_up": ("mlp.gate_up_proj", 4),
    "ffn_down": ("mlp.down_proj", 4),
}


def write(graphs: Path, facts, path: Path) -> int:
    """Write `path` from the graphs' weights; returns how many bytes of weights a decode step reads."""
    weights = read_weights(graphs / "decoder.ort.onnx")
    table = np.memmap(graphs / "embed_tokens.bin", np.uint8, "r")
    tensors = {"token_embd.weight": (_BF16, (facts.vocab_size, facts.hidden_size), table)}
    for layer in range(facts.num_layers):
        for name, (source, bits) in _LAYER.items():
            tensors[f"blk.{layer}.{name}.weight"] = _tensor(weights, f"model.layers.{layer}.{source}.weight", bits)
    tensors["output_norm.weight"] = _tensor(weights, "model.norm.weight", None)
    tensors["output.weight"] = _tensor(weights, "lm_head.weight", 8)
    with path.open("wb") as file:
        file.write(_header(_facts(facts), tensors))
        for _, _, data in tensors.values():
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            file.write(data.data)
    return sum(data.nbytes for name, (_, _, data) in tensors.items() if name != "token_embd.weight")


def _facts(facts):
    return {
        "general.architecture": (_STRING, "phi3"),
        "phi3.context_length": (_UINT32, facts.max_position_embeddings),
        "phi3.embedding_length": (_UINT32, facts.hidden_size),
        "phi3.block_count": (_UINT32, facts.num_layers),
        "phi3.feed_forward_length": (_UINT32, facts.intermediate_size),
        "phi3.attention.head_count": (_UINT32, facts.num_heads),
        "phi3.attention.head_count_kv": (_UINT32, facts.num_kv_heads),
        "phi3.attention.layer_norm_rms_epsilon": (_FLOAT32, facts.rms_norm_eps),
        "phi3.attention.sliding_window": (_UINT32, 0),
        "phi3.rope.dimension_count": (_UINT32, facts.head_dim),
        "phi3.rope.freq_base": (_FLOAT32, facts.rope_theta),
        "phi3.vocab_size": (_UINT32, facts.vocab_size),
        "tokenizer.ggml.model": (_STRING, "none"),
    }


def _tensor(weights, name, bits):
    if bits is None:
        return _F32, weights[name].shape, weights[name]
    codes, scales = weights[f"{name}.int{bits}"], weights[f"{name}.scales"].astype(np.float16)
    rows, groups, blob_bytes = codes.shape
    assert blob_bytes * 8 // bits == 32, "llama.cpp's groups have 32 weights"
    if bits == 8:
        packed = codes ^ 0x80  # from an offset of 128 to two's complement
    else:
        # There a byte holds weights i and i + 16 of a group, here 2 i and 2 i + 1.
        nibbles = np.stack([codes & 15, codes >> 4], axis=-1).reshape(rows, groups, 32)
        packed = nibbles[..., :16] | (nibbles[..., 16:] << 4)
    blocks = np.concatenate([scales[..., None].view(np.uint8), packed], axis=-1)
    return (_Q4_0 if bits == 4 else _Q8_0), (rows, groups * 32), blocks


def _header(facts, tensors) -> bytes:
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(facts))]
    for key, (kind, value) in facts.items():
        packed = _string(value) if kind == _STRING else struct.pack("<I" if kind == _UINT32 else "<f", value)
        parts += [_string(key), struct.pack("<I", kind), packed]
    offset = 0
    for name, (kind, shape, data) in tensors.items():
        sides = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        parts += [_string(name), sides, struct.pack("<IQ", kind, offset)]
        offset += -(-data.nbytes // _ALIGNMENT) * _ALIGNMENT
    header = b"".join(parts)
    return header + b"\0" * (-len(header) % _ALIGNMENT)


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded
