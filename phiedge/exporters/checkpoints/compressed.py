"""compressed-tensors: the whole model under the publisher's fused names, for vLLM.

weight_packed: int32 [out, in / 8], eight codes plus 8 in each, the earliest in the lowest bits; weight_scale: float16
[out, in / group_size]; weight_shape: int64 [2]. In FP8: weight float8 [out, in], weight_scale float16 [out, 1],
input_scale float32 [1]. Vision tower, projector and head are plain. What inference does not use
(the last vision block, the norm after it, the pooling head) is not in a bundle, and so not here.
Source: `pack_to_int32` and the quantization schemes of compressed-tensors 0.20; vLLM's `phi4siglip.py`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiedge.bundle import Bundle, ModelFacts
from phiedge.errors import FormatError
from phiedge.exporters.checkpoints.plain_tensors import embedding_table, head, plain_tensor
from phiedge.exporters.checkpoints.stored import Float8Linear, GroupedLinear, StoredWeights, row_blocks
from phiedge.exporters.checkpoints.tensor_file import TensorOut
from phiedge.exporters.checkpoints.text_model import LAYER, decoder_weights, require_float8, require_int4
from phiedge.exporters.tensors import POSITION_TABLE, TOWER_PREFIX

GROUPS = (128, 64, 32)
IGNORED = ("lm_head", "re:.*vision_tower.*", "re:.*mm_projector.*", "re:.*multi_modal_projector.*")
_LINEARS = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
_PLAIN_TYPES = ("float32", "float16", "bfloat16")


def compressed_tensors(bundle: Bundle) -> list[TensorOut]:
    """Every tensor of the format. Raises `FormatError` for a bundle that it cannot hold."""
    weights = decoder_weights(bundle)
    in_float8 = bundle.manifest.precision.decoder == "float8"
    if in_float8:
        require_float8(bundle, weights, "compressed-tensors")
    else:
        require_int4(bundle, weights, "compressed-tensors", groups=GROUPS)
    tensors = [embedding_table(bundle)]
    for layer in range(bundle.manifest.facts.num_layers):
        prefix = LAYER.format(layer)
        tensors.append(plain_tensor(weights, f"{prefix}input_layernorm.weight"))
        for name in _LINEARS:
            linear = _float8_linear if in_float8 else _linear
            tensors += linear(weights, f"{prefix}{name}")
        tensors.append(plain_tensor(weights, f"{prefix}post_attention_layernorm.weight"))
    tensors += [plain_tensor(weights, "model.norm.weight"), head(weights)]
    return [*tensors, *_vision(bundle), _position_table(bundle)]


def compressed_quantization(bundle: Bundle) -> dict[str, object]:
    """`quantization_config` of `config.json`."""
    if bundle.manifest.precision.decoder == "float8":
        return _float8_quantization()
    weights = {
        "num_bits": 4,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": bundle.manifest.precision.group_size,
        "dynamic": False,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": list(IGNORED),
    }


def _float8_quantization() -> dict[str, object]:
    """A scale for each row of the weights, and the one that calibration found for inputs."""
    number = {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": False}
    group = {
        "targets": ["Linear"],
        "weights": number | {"strategy": "channel"},
        "input_activations": number | {"strategy": "tensor"},
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": list(IGNORED),
    }


def publisher_config(bundle: Bundle) -> dict[str, object]:
    """`config.json` as the publisher writes it, but in float16: in bfloat16 a reader would round every scale.

    `auto_map` names the publisher's own code, which a reader needs beside the checkpoint and phiedge does not copy.
    """
    facts = bundle.manifest.facts
    eos = facts.eos_token_ids
    return {
        "architectures": ["Phi4ForCausalLMV"],
        "auto_map": {
            "AutoConfig": "modeling_phi4_visionr.Phi4VisionR",
            "AutoModelForCausalLM": "modeling_phi4_visionr.Phi4ForCausalLMV",
            "AutoProcessor": "processing_phi4_visionr.Phi4VisionRProcessor",
        },
        "attention_bias": False,
        "bos_token_id": facts.bos_token_id,
        "eos_token_id": eos[0] if len(eos) == 1 else list(eos),
        "hidden_act": "silu",
        "hidden_size": facts.hidden_size,
        "intermediate_size": facts.intermediate_size,
        "max_num_patches": facts.max_num_patches,
        "max_position_embeddings": facts.max_position_embeddings,
        "min_num_patches": facts.min_num_patches,
        "mm_hidden_size": facts.vision_hidden_size,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_tower": f"google/siglip2-so400m-patch{facts.patch_size}-naflex",
        "model_type": facts.model_type,
        "num_attention_heads": facts.num_heads,
        "num_hidden_layers": facts.num_layers,
        "num_key_value_heads": facts.num_kv_heads,
        "original_max_position_embeddings": facts.max_position_embeddings,
        "pad_token_id": facts.pad_token_id,
        "partial_rotary_factor": 1.0,
        "rms_norm_eps": facts.rms_norm_eps,
        "rope_scaling": None,
        "rope_theta": facts.rope_theta,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "tokenizer_model_max_length": facts.publisher_max_length,
        "tokenizer_padding_side": "right",
        "torch_dtype": "float16",
        "use_cache": True,
        "use_mm_proj": True,
        "vision_config": _vision_config(bundle),
        "vocab_size": facts.vocab_size,
    }


def preprocessor_config(facts: ModelFacts) -> dict[str, object]:
    """`preprocessor_config.json`, as the publisher has it."""
    return {
        "auto_map": {"AutoProcessor": "processing_phi4_visionr.Phi4VisionRProcessor"},
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "Siglip2ImageProcessorNoUpscale",
        "image_std": [0.5, 0.5, 0.5],
        "max_num_patches": facts.max_num_patches,
        "min_num_patches": facts.min_num_patches,
        "patch_size": facts.patch_size,
        "processor_class": "Phi4VisionRProcessor",
        "resample": 2,
        "rescale_factor": 1 / 255,
    }


def _linear(weights: StoredWeights, name: str) -> Iterator[TensorOut]:
    found = weights.grouped(f"{name}.weight")
    assert found is not None
    shape = np.array([found.rows, found.k], dtype=np.int64)

    def codes(linear: GroupedLinear = found) -> Iterator[NDArray[Any]]:
        for rows in row_blocks(linear.rows, linear.k // 2):
            yield np.ascontiguousarray(weights.read_grouped(linear, rows).packed).view("<i4")

    def scales(linear: GroupedLinear = found) -> Iterator[NDArray[Any]]:
        yield weights.read_scales(linear, slice(0, linear.rows)).astype(np.float16)

    groups = found.k // found.group_size
    yield TensorOut(name=f"{name}.weight_packed", dtype="I32", shape=(found.rows, found.k // 8), parts=codes)
    yield TensorOut(name=f"{name}.weight_scale", dtype="F16", shape=(found.rows, groups), parts=scales)
    yield TensorOut.of(f"{name}.weight_shape", "I64", shape)


def _float8_linear(weights: StoredWeights, name: str) -> Iterator[TensorOut]:
    found = weights.float8(f"{name}.weight")
    assert found is not None

    def codes(linear: Float8Linear = found) -> Iterator[NDArray[Any]]:
        for rows in row_blocks(linear.rows, linear.k):
            yield weights.read_float8(linear, rows)

    scales = weights.read_float8_scales(found, slice(0, found.rows)).astype(np.float16)
    yield TensorOut(name=f"{name}.weight", dtype="F8_E4M3", shape=(found.rows, found.k), parts=codes)
    yield TensorOut.of(f"{name}.weight_scale", "F16", scales[:, None])
    yield TensorOut.of(f"{name}.input_scale", "F32", np.array([found.input_scale], np.float32))


def _vision_weights(bundle: Bundle) -> StoredWeights:
    dialects = bundle.manifest.dialects
    return StoredWeights(bundle, dialects["ort" if "ort" in dialects else next(iter(dialects))].vision)


def _vision(bundle: Bundle) -> Iterator[TensorOut]:
    """Tower and projector, in the order of their names, under the publisher's."""
    weights = _vision_weights(bundle)
    for stored in sorted(weights.names()):
        plain = stored.removesuffix(".float16")
        if not plain.startswith(("tower.", "mm_projector.")):
            continue
        dtype, _ = weights.plain(plain)
        if dtype not in _PLAIN_TYPES or not plain.endswith((".weight", ".bias")):
            raise FormatError(
                f"compressed-tensors holds a plain vision tower, {stored} is {dtype}",
                remedy="export with vision in float16",
            )
        tower = plain.removeprefix("tower.")
        yield plain_tensor(weights, plain, f"model.{plain}" if tower == plain else TOWER_PREFIX + tower)


def _position_table(bundle: Bundle) -> TensorOut:
    table = bundle.manifest.positions
    values = np.fromfile(bundle.file(table.file), "<f4").reshape(table.shape)
    return TensorOut.of(POSITION_TABLE, "F32", values)


def _vision_config(bundle: Bundle) -> dict[str, object]:
    """The tower with its unused last block, which readers count and then leave out."""
    facts = bundle.manifest.facts
    config: dict[str, object] = {
        "hidden_size": facts.vision_hidden_size,
        "intermediate_size": facts.vision_intermediate_size,
        "layer_norm_eps": _layer_norm_eps(bundle),
        "model_type": "siglip2_vision_model",
        "num_attention_heads": facts.vision_heads,
        "num_hidden_layers": facts.vision_layers_used + 1,
        "num_patches": facts.position_grid**2,
        "patch_size": facts.patch_size,
        "vision_use_head": False,
    }
    return config


def _layer_norm_eps(bundle: Bundle) -> float:
    """What the vision graph's norms add, which the manifest does not say."""
    found = _vision_weights(bundle).attributes("epsilon")
    if len(found) != 1:
        raise FormatError(
            f"the norms of {bundle.path}'s vision graph add {sorted(found)}, one number is expected",
            remedy="export the bundle with this phiedge",
        )
    return float(f"{found.pop():.6g}")
