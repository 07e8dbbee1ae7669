"""The checkpoint of `trtllm-build`: unpacked as its reader does before it reorders for a GPU."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phiedge.bundle import Bundle
from phiedge.errors import FormatError
from phiedge.exporters.checkpoints import write_checkpoint
from phiedge.exporters.checkpoints.tensor_file import TensorOut
from phiedge.exporters.checkpoints.trtllm_legacy import in_float16
from stored_numbers import decoder_numbers
from text_models import llama_logits, read_safetensors

# TensorRT-LLM's names and Hugging Face's: `MODEL_MAP` of its Llama; fc is what goes through the activation.
NAMES = {
    "attention.dense": "self_attn.o_proj",
    "mlp.fc": "mlp.gate_proj",
    "mlp.gate": "mlp.up_proj",
    "mlp.proj": "mlp.down_proj",
    "input_layernorm": "input_layernorm",
    "post_layernorm": "post_attention_layernorm",
}
TOP = {"vocab_embedding": "model.embed_tokens.weight", "ln_f": "model.norm.weight"}


@pytest.fixture(scope="module")
def checkpoint(gpu_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(gpu_bundle, "trtllm-legacy", tmp_path_factory.mktemp("legacy") / "checkpoint")


@pytest.fixture(scope="module")
def tensors(checkpoint: Path) -> dict[str, np.ndarray]:
    return read_safetensors(checkpoint / "rank0.safetensors")


def dequantised(tensors: dict[str, np.ndarray], heads: int, kv_heads: int, head_dim: int) -> dict[str, np.ndarray]:
    """As a Llama: the transposed codes are nibbles of int8 [in, out / 2], the lower one the earlier output."""
    found = {}
    for name, array in tensors.items():
        if not name.endswith(".weight"):
            continue
        if array.dtype == np.int8:
            columns = array.T.view(np.uint8)
            nibbles = np.stack([columns & 15, columns >> 4], axis=2).reshape(columns.shape[0], -1).astype(np.int8)
            codes = np.where(nibbles > 7, nibbles - 16, nibbles)
            scales = tensors[name.removesuffix("weight") + "weights_scaling_factor"].T.astype(np.float32)
            array = (codes * np.repeat(scales, 128, axis=0)).T
        found |= renamed(name, array, heads * head_dim, kv_heads * head_dim)
    return found


def renamed(name: str, array: np.ndarray, queries: int, keys: int) -> dict[str, np.ndarray]:
    if not name.startswith("transformer.layers."):
        return {TOP.get(name.removeprefix("transformer.").removesuffix(".weight"), name): array}
    _, _, layer, rest = name.removesuffix(".weight").split(".", 3)
    if rest == "attention.qkv":
        cuts = np.split(array, [queries, queries + keys])
        return {f"model.layers.{layer}.self_attn.{x}_proj.weight": cut for x, cut in zip("qkv", cuts, strict=True)}
    return {f"model.layers.{layer}.{NAMES[rest]}.weight": array}


def test_every_code_and_scale_is_the_bundles(gpu_bundle: Bundle, tensors: dict[str, np.ndarray]) -> None:
    expected = decoder_numbers(gpu_bundle.path)
    codes = {name: array for name, array in tensors.items() if array.dtype == np.int8}
    assert len(codes) == 5 * gpu_bundle.manifest.facts.num_layers
    facts = gpu_bundle.manifest.facts
    found = dequantised(tensors, facts.num_heads, facts.num_kv_heads, facts.head_dim)
    for layer in range(facts.num_layers):
        prefix = f"model.layers.{layer}."
        fused = np.concatenate([found[f"{prefix}self_attn.{letter}_proj.weight"] for letter in "qkv"])
        np.testing.assert_array_equal(fused, expected[f"{prefix}self_attn.qkv_proj.weight"])
        gate_up = np.concatenate([found[f"{prefix}mlp.{part}_proj.weight"] for part in ("gate", "up")])
        np.testing.assert_array_equal(gate_up, expected[f"{prefix}mlp.gate_up_proj.weight"])
        for name in ("self_attn.o_proj", "mlp.down_proj"):
            np.testing.assert_array_equal(found[f"{prefix}{name}.weight"], expected[f"{prefix}{name}.weight"])


def test_a_llama_of_these_weights_has_the_bundles_logits(
    gpu_bundle: Bundle, checkpoint: Path, tensors: dict[str, np.ndarray], asked: Any
) -> None:
    facts = gpu_bundle.manifest.facts
    from phiedge.exporters.checkpoints.text_model import llama_config

    (checkpoint.parent / "config.json").write_text(json.dumps(llama_config(facts, dtype="float16")))
    weights = dequantised(tensors, facts.num_heads, facts.num_kv_heads, facts.head_dim)
    logits = llama_logits(checkpoint.parent, weights, asked.tokens)
    np.testing.assert_allclose(logits, asked.logits, rtol=0, atol=2e-2)  # norms are rounded to float16, too


def test_the_reader_finds_every_factor_that_it_asks_for(tensors: dict[str, np.ndarray]) -> None:
    # WeightOnlyGroupwiseQuantLinear with pre_quant_scale: a factor for each input of every groupwise linear.
    linears = [name.removesuffix("weight") for name, array in tensors.items() if array.dtype == np.int8]
    for name in linears:
        half_rows, k = tensors[f"{name}weight"].shape
        assert tensors[f"{name}weights_scaling_factor"].shape == (2 * half_rows, k // 128)
        np.testing.assert_array_equal(tensors[f"{name}prequant_scaling_factor"], np.ones(k, np.float16))
    plain = {array.dtype for name, array in tensors.items() if name.endswith("weight") and array.dtype != np.int8}
    assert plain == {np.dtype(np.float16)}


def test_config_has_the_keys_of_the_documented_checkpoint(gpu_bundle: Bundle, checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    # docs/source/legacy/architecture/checkpoint.md of TensorRT-LLM 1.2, and LLaMAConfig.
    required = {
        "architecture",
        "dtype",
        "logits_dtype",
        "vocab_size",
        "max_position_embeddings",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "hidden_act",
        "intermediate_size",
        "norm_epsilon",
        "position_embedding_type",
        "mapping",
        "quantization",
    }
    assert required <= config.keys()
    assert config["rotary_base"] == gpu_bundle.manifest.facts.rope_theta
    assert config["quantization"]["exclude_modules"] == ["lm_head"]
    assert "image_token_id" not in config


def test_a_norm_that_float16_does_not_hold_is_refused() -> None:
    norm = in_float16(TensorOut.of("transformer.ln_f.weight", "F32", np.array([1.0, 70000.0], np.float32)))
    with pytest.raises(FormatError, match="transformer.ln_f.weight holds 70000, float16 holds 65504"):
        list(norm.parts())
