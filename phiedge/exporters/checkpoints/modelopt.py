"""ModelOpt's unified checkpoint: the decoder as an unfused text model, for TensorRT-LLM's PyTorch backend and Edge-LLM.

W4A16_AWQ: weight uint8 [out / 2, in], rows 2n and 2n + 1 in the lower and upper half of a byte, two's complement;
weight_scale float32 [out, in / 128]. The factors of AWQ are folded already, but its readers multiply the inputs of
o_proj and down_proj by `pre_quant_scale` without asking whether it is there, so these two have one, of ones; the
others' is ignored, and left out.

FP8: weight float8 [out, in], weight_scale float32 (), input_scale float32 (), where all rows of the bundle's weights
have the same scale. q, k and v then have one, too, and gate and up: TensorRT-LLM joins them under the largest of their
scales, and rounds again what has another. Otherwise weight_scale is float32 [out], which ModelOpt calls
FP8_PER_CHANNEL_PER_TOKEN: readers find the scale of every token's input themselves. Keys and values have scalars,
k_scale and v_scale.
Source: nvidia-modelopt 0.47's export; `linear.py` of TensorRT-LLM 1.3.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiedge.bundle import Bundle
from phiedge.errors import FormatError
from phiedge.exporters.checkpoints.plain_tensors import embedding_table, head, plain_tensor
from phiedge.exporters.checkpoints.stored import HIGHEST_BITS, StoredWeights
from phiedge.exporters.checkpoints.tensor_file import TensorOut
from phiedge.exporters.checkpoints.text_model import (
    LAYER,
    Part,
    decoder_weights,
    has_tensor_scales,
    parts_of_layer,
    require_float8,
    require_int4,
)
from phiedge.exporters.quantised import QuantisedWeight

GROUPS = (128,)
FIRST_FP8_SM = 89
FP8, FP8_BY_ROW = "FP8", "FP8_PER_CHANNEL_PER_TOKEN"
SCALED_INPUTS = ("o_proj", "down_proj")  # which readers want a `pre_quant_scale` for
_PLAIN = ("lm_head", "model.embed_tokens")
# The format is ModelOpt's, and readers tell it by this name; the version is the one whose export this was held against.
PRODUCER = {"name": "modelopt", "version": "0.47.0"}


def modelopt_tensors(bundle: Bundle) -> list[TensorOut]:
    """Every tensor of the format. Raises `FormatError` for a bundle that it cannot hold."""
    weights = decoder_weights(bundle)
    in_float8 = bundle.manifest.precision.decoder == "float8"
    if in_float8:
        require_float8(bundle, weights, "modelopt")
    else:
        require_int4(bundle, weights, "modelopt", groups=GROUPS)
    tensors = [embedding_table(bundle)]
    cache, one_scale = cache_scales(bundle), has_tensor_scales(bundle)
    for layer in range(bundle.manifest.facts.num_layers):
        prefix = LAYER.format(layer)
        tensors.append(plain_tensor(weights, f"{prefix}input_layernorm.weight"))
        for part in parts_of_layer(bundle.manifest.facts, layer):
            tensors += _float8_linear(weights, part, one_scale) if in_float8 else _linear(weights, part)
        if cache is not None:
            tensors += _cache(prefix, *cache[layer])
        tensors.append(plain_tensor(weights, f"{prefix}post_attention_layernorm.weight"))
    return [*tensors, plain_tensor(weights, "model.norm.weight"), head(weights)]


def modelopt_quantization(bundle: Bundle) -> tuple[dict[str, object], dict[str, object]]:
    """`quantization_config` of `config.json`, and `hf_quant_config.json`; readers look at either."""
    algorithm: dict[str, object] = {
        "quant_algo": "W4A16_AWQ",
        "group_size": 128,
        "has_zero_point": False,
        "pre_quant_scale": True,
    }
    flat: dict[str, object] = {"quant_method": "modelopt", "ignore": list(_PLAIN), "producer": PRODUCER}
    if has_tensor_scales(bundle):
        algorithm = {"quant_algo": FP8}
        static = {"dynamic": False, "num_bits": 8, "type": "float"}
        group = {"input_activations": static, "weights": static, "targets": ["Linear"]}
        flat["config_groups"] = {"group_0": group}
    elif bundle.manifest.precision.decoder == "float8":
        algorithm = {"quant_algo": FP8_BY_ROW}
    in_cache = "FP8" if cache_scales(bundle) is not None else None
    if in_cache:
        flat["kv_cache_scheme"] = {"dynamic": False, "num_bits": 8, "type": "float"}
    nested = algorithm | {"kv_cache_quant_algo": in_cache, "exclude_modules": list(_PLAIN)}
    return flat | algorithm, {"producer": PRODUCER, "quantization": nested}


def cache_scales(bundle: Bundle) -> list[tuple[float, float]] | None:
    """The scales of each layer's keys and values in FP8, where calibration found them and the device multiplies FP8."""
    name, (major, _, minor) = bundle.manifest.quantization, str(bundle.manifest.target.get("sm")).partition(".")
    if name is None or not (major + minor).isdigit() or int(major + minor) < FIRST_FP8_SM:
        return None
    found = json.loads(bundle.file(name).read_bytes()).get("kv_cache") or {}
    sides = found.get("float8")
    if sides is None:
        return None
    return [(float(key), float(value)) for key, value in zip(sides["key"], sides["value"], strict=True)]


def pack_rows(weight: QuantisedWeight) -> NDArray[np.uint8]:
    """uint8 [out / 2, in]: two rows in a byte, the earlier in the lower half, two's complement."""
    signed = weight.packed ^ HIGHEST_BITS
    packed = np.empty((signed.shape[0] // 2, signed.shape[1] * 2), dtype=np.uint8)
    upper, lower = signed[0::2], signed[1::2]
    packed[:, 0::2] = (upper & 15) | (lower << 4)
    packed[:, 1::2] = (upper >> 4) | (lower & 0xF0)
    return packed


def _float8_linear(weights: StoredWeights, part: Part, one_scale: bool) -> Iterator[TensorOut]:
    found = weights.float8(part.stored)
    assert found is not None

    def codes() -> Iterator[NDArray[Any]]:
        yield weights.read_float8(found, part.rows)

    yield TensorOut(name=f"{part.name}.weight", dtype="F8_E4M3", shape=(part.count, found.k), parts=codes)
    scales = weights.read_float8_scales(found, part.rows)
    if one_scale:
        yield TensorOut.of(f"{part.name}.weight_scale", "F32", np.array(scales[0], np.float32))
        yield TensorOut.of(f"{part.name}.input_scale", "F32", np.array(found.input_scale, np.float32))
    else:
        yield TensorOut.of(f"{part.name}.weight_scale", "F32", scales)


def _cache(prefix: str, key: float, value: float) -> Iterator[TensorOut]:
    yield TensorOut.of(f"{prefix}self_attn.k_proj.k_scale", "F32", np.array(key, np.float32))
    yield TensorOut.of(f"{prefix}self_attn.v_proj.v_scale", "F32", np.array(value, np.float32))


def _linear(weights: StoredWeights, part: Part) -> Iterator[TensorOut]:
    found = weights.grouped(part.stored)
    assert found is not None
    if part.count % 2 != 0:
        raise FormatError(
            f"modelopt packs rows in pairs, {part.name} has {part.count}", remedy="take the format compressed-tensors"
        )

    def codes() -> Iterator[NDArray[Any]]:
        yield pack_rows(weights.read_grouped(found, part.rows))

    def scales() -> Iterator[NDArray[Any]]:
        yield weights.read_scales(found, part.rows)

    yield TensorOut(name=f"{part.name}.weight", dtype="U8", shape=(part.count // 2, found.k), parts=codes)
    yield TensorOut(
        name=f"{part.name}.weight_scale", dtype="F32", shape=(part.count, found.k // found.group_size), parts=scales
    )
    if part.name.endswith(SCALED_INPUTS):
        yield TensorOut.of(f"{part.name}.pre_quant_scale", "F16", np.ones(found.k, dtype=np.float16))
