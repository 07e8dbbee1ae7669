"""ModelOpt's unified checkpoint: the decoder as an unfused text model, for TensorRT-LLM's PyTorch backend and Edge-LLM.

W4A16_AWQ: weight uint8 [out / 2, in], rows 2n and 2n + 1 in the lower and upper half of a byte, two's complement;
weight_scale float32 [out, in / 128]. The factors of AWQ are folded already, but its readers multiply the inputs of
o_proj and down_proj by `pre_quant_scale` without asking whether it is there, so these two have one, of ones; the
others' is ignored, and left out. Source: nvidia-modelopt 0.47's export; `linear.py` of TensorRT-LLM 1.3.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiedge.bundle import Bundle
from phiedge.errors import FormatError
from phiedge.exporters.checkpoints.plain_tensors import embedding_table, head, plain_tensor
from phiedge.exporters.checkpoints.stored import HIGHEST_BITS, StoredWeights
from phiedge.exporters.checkpoints.tensor_file import TensorOut
from phiedge.exporters.checkpoints.text_model import LAYER, Part, decoder_weights, parts_of_layer, require_int4
from phiedge.exporters.quantised import QuantisedWeight

GROUPS = (128,)
SCALED_INPUTS = ("o_proj", "down_proj")  # which readers want a `pre_quant_scale` for
_PLAIN = ("lm_head", "model.embed_tokens")
# The format is ModelOpt's, and readers tell it by this name; the version is the one whose export this was held against.
PRODUCER = {"name": "modelopt", "version": "0.47.0"}


def modelopt_tensors(bundle: Bundle) -> list[TensorOut]:
    """Every tensor of the format. Raises `FormatError` for a bundle that it cannot hold."""
    weights = decoder_weights(bundle)
    require_int4(bundle, weights, "modelopt", groups=GROUPS)
    tensors = [embedding_table(bundle)]
    for layer in range(bundle.manifest.facts.num_layers):
        prefix = LAYER.format(layer)
        tensors.append(plain_tensor(weights, f"{prefix}input_layernorm.weight"))
        for part in parts_of_layer(bundle.manifest.facts, layer):
            tensors += _linear(weights, part)
        tensors.append(plain_tensor(weights, f"{prefix}post_attention_layernorm.weight"))
    return [*tensors, plain_tensor(weights, "model.norm.weight"), head(weights)]


def modelopt_quantization() -> tuple[dict[str, object], dict[str, object]]:
    """`quantization_config` of `config.json`, and `hf_quant_config.json`; readers look at either."""
    said: dict[str, object] = {
        "quant_algo": "W4A16_AWQ",
        "kv_cache_quant_algo": None,
        "group_size": 128,
        "has_zero_point": False,
        "pre_quant_scale": True,
        "exclude_modules": list(_PLAIN),
    }
    flat: dict[str, object] = {
        "quant_method": "modelopt",
        "quant_algo": "W4A16_AWQ",
        "group_size": 128,
        "has_zero_point": False,
        "pre_quant_scale": True,
        "ignore": list(_PLAIN),
        "producer": PRODUCER,
    }
    return flat, {"producer": PRODUCER, "quantization": said}


def pack_rows(weight: QuantisedWeight) -> NDArray[np.uint8]:
    """uint8 [out / 2, in]: two rows in a byte, the earlier in the lower half, two's complement."""
    signed = weight.packed ^ HIGHEST_BITS
    packed = np.empty((signed.shape[0] // 2, signed.shape[1] * 2), dtype=np.uint8)
    upper, lower = signed[0::2], signed[1::2]
    packed[:, 0::2] = (upper & 15) | (lower << 4)
    packed[:, 1::2] = (upper >> 4) | (lower & 0xF0)
    return packed


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
