"""The checkpoint that `trtllm-build` takes, of TensorRT-LLM up to 1.2 and of its branch for Orin (v0.12.0-jetson).

`config.json` and `rank0.safetensors`: qkv fused in the order of the bundle, gate and up apart, under the names of
TensorRT-LLM's Llama (`mlp.fc` is gate, `mlp.gate` is up, `mlp.proj` is down). Codes are int8 [out / 2, in] as ModelOpt
packs them; the order that a GPU's kernel wants is made by the reader, which knows the GPU. Everything else is of one
type, float16: that rounds norms and the embedding table once (docs/decisions/0941).
Source: `preprocess_perlayer_weights` and `LLaMAConfig` of TensorRT-LLM 1.0; its documentation of checkpoints.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiedge.bundle import Bundle, ModelFacts
from phiedge.errors import FormatError
from phiedge.exporters.checkpoints.modelopt import PRODUCER, pack_rows
from phiedge.exporters.checkpoints.plain_tensors import HEAD, embedding_table, head, plain_tensor
from phiedge.exporters.checkpoints.stored import StoredWeights
from phiedge.exporters.checkpoints.tensor_file import TensorOut
from phiedge.exporters.checkpoints.text_model import LAYER, Part, decoder_weights, require_int4

FILE = "rank0.safetensors"
GROUPS = (128,)


def legacy_tensors(bundle: Bundle) -> list[TensorOut]:
    """Every tensor of the format. Raises `FormatError` for a bundle that it cannot hold."""
    weights = decoder_weights(bundle)
    require_int4(bundle, weights, "trtllm-legacy", groups=GROUPS)
    tensors = [in_float16(embedding_table(bundle, "transformer.vocab_embedding.weight"))]
    for layer in range(bundle.manifest.facts.num_layers):
        stored, name = LAYER.format(layer), f"transformer.layers.{layer}."
        tensors.append(in_float16(plain_tensor(weights, f"{stored}input_layernorm.weight")))
        tensors[-1] = _renamed(tensors[-1], f"{name}input_layernorm.weight")
        for part in _parts(bundle.manifest.facts, layer):
            tensors += _linear(weights, part)
        norm = in_float16(plain_tensor(weights, f"{stored}post_attention_layernorm.weight"))
        tensors.append(_renamed(norm, f"{name}post_layernorm.weight"))
    norm = in_float16(plain_tensor(weights, "model.norm.weight"))
    return [*tensors, _renamed(norm, "transformer.ln_f.weight"), in_float16(head(weights, HEAD))]


def legacy_config(facts: ModelFacts) -> dict[str, object]:
    """`config.json`."""
    return {
        "producer": PRODUCER,
        "architecture": "LlamaForCausalLM",
        "dtype": "float16",
        "logits_dtype": "float32",
        "num_hidden_layers": facts.num_layers,
        "num_attention_heads": facts.num_heads,
        "num_key_value_heads": facts.num_kv_heads,
        "hidden_size": facts.hidden_size,
        "intermediate_size": facts.intermediate_size,
        "head_size": facts.head_dim,
        "norm_epsilon": facts.rms_norm_eps,
        "vocab_size": facts.vocab_size,
        "max_position_embeddings": facts.max_position_embeddings,
        "position_embedding_type": "rope_gpt_neox",
        "rotary_base": facts.rope_theta,
        "rotary_scaling": None,
        "hidden_act": "silu",
        "attn_bias": False,
        "mlp_bias": False,
        "use_parallel_embedding": False,
        "embedding_sharding_dim": 0,
        "share_embedding_table": False,
        "mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1},
        "quantization": {
            "quant_algo": "W4A16_AWQ",
            "kv_cache_quant_algo": None,
            "group_size": 128,
            "has_zero_point": False,
            "pre_quant_scale": True,
            "exclude_modules": ["lm_head"],
        },
    }


def in_float16(tensor: TensorOut) -> TensorOut:
    """A plain tensor in float16. Raises `FormatError`, when it is written, for a number that float16 does not hold."""

    def parts() -> Iterator[NDArray[Any]]:
        for part in tensor.parts():
            wide = (part.astype(np.uint32) << 16).view(np.float32) if tensor.dtype == "BF16" else part
            with np.errstate(over="ignore"):
                rounded = wide.astype(np.float16)
            if not np.isfinite(rounded).all():
                raise FormatError(
                    f"{tensor.name} holds {np.abs(wide).max():g}, float16 holds 65504 at most",
                    remedy="take the format modelopt, whose norms stay float32",
                )
            yield rounded

    return TensorOut(name=tensor.name, dtype="F16", shape=tensor.shape, parts=parts)


def _renamed(tensor: TensorOut, name: str) -> TensorOut:
    return TensorOut(name=name, dtype=tensor.dtype, shape=tensor.shape, parts=tensor.parts)


def _parts(facts: ModelFacts, layer: int) -> Iterator[Part]:
    stored, name = LAYER.format(layer), f"transformer.layers.{layer}."
    width, qkv = facts.intermediate_size, (facts.num_heads + 2 * facts.num_kv_heads) * facts.head_dim
    gate_up = f"{stored}mlp.gate_up_proj.weight"
    cuts = (
        ("attention.qkv", f"{stored}self_attn.qkv_proj.weight", 0, qkv),
        ("attention.dense", f"{stored}self_attn.o_proj.weight", 0, facts.hidden_size),
        ("mlp.fc", gate_up, 0, width),
        ("mlp.gate", gate_up, width, 2 * width),
        ("mlp.proj", f"{stored}mlp.down_proj.weight", 0, facts.hidden_size),
    )
    for part, tensor, start, stop in cuts:
        yield Part(name=name + part, stored=tensor, rows=slice(start, stop))


def _linear(weights: StoredWeights, part: Part) -> Iterator[TensorOut]:
    found = weights.grouped(part.stored)
    assert found is not None
    groups = found.k // found.group_size

    def codes() -> Iterator[NDArray[Any]]:
        yield pack_rows(weights.read_grouped(found, part.rows))

    def scales() -> Iterator[NDArray[Any]]:
        yield weights.read_scales(found, part.rows).astype(np.float16)

    yield TensorOut(name=f"{part.name}.weight", dtype="I8", shape=(part.count // 2, found.k), parts=codes)
    yield TensorOut(name=f"{part.name}.weights_scaling_factor", dtype="F16", shape=(part.count, groups), parts=scales)
    # Folded already; with `pre_quant_scale` the reader wants them for every linear.
    yield TensorOut.of(f"{part.name}.prequant_scaling_factor", "F16", np.ones(found.k, dtype=np.float16))
