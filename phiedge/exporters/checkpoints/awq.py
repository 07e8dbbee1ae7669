"""AWQ-GEMM: the decoder as an unfused text model with int4 weights, for TensorRT Edge-LLM on Orin and for vLLM.

qweight: int32 [in, out / 8], eight outputs in each, nibble j holding output (0, 2, 4, 6, 1, 3, 5, 7)[j] of its eight;
qzeros: int32 [in / 128, out / 8], all 8; scales: float16 [in / 128, out]. The codes are those of the bundle plus 8, the
scales are the bundle's. Factors of AWQ are folded into norms and rows, so there is nothing else to say.
Source: the reader `AWQConfig` and `AWQLinearMethod` of vLLM, `repacking.py` of tensorrt-edgellm 0.11.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiedge.bundle import Bundle
from phiedge.errors import FormatError
from phiedge.exporters.checkpoints.plain_tensors import embedding_table, head, plain_tensor
from phiedge.exporters.checkpoints.stored import StoredWeights
from phiedge.exporters.checkpoints.tensor_file import TensorOut
from phiedge.exporters.checkpoints.text_model import LAYER, Part, decoder_weights, parts_of_layer, require_int4
from phiedge.exporters.quantised import QuantisedWeight

GROUPS = (128,)
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # which output stands in nibble j
ZEROS = np.uint32(0x88888888)


def awq_tensors(bundle: Bundle) -> list[TensorOut]:
    """Every tensor of the format. Raises `FormatError` for a bundle that it cannot hold."""
    weights = decoder_weights(bundle)
    group_size = require_int4(bundle, weights, "awq", groups=GROUPS)
    tensors = [embedding_table(bundle)]
    for layer in range(bundle.manifest.facts.num_layers):
        prefix = LAYER.format(layer)
        tensors.append(plain_tensor(weights, f"{prefix}input_layernorm.weight"))
        for part in parts_of_layer(bundle.manifest.facts, layer):
            tensors += _linear(weights, part, group_size)
        tensors.append(plain_tensor(weights, f"{prefix}post_attention_layernorm.weight"))
    return [*tensors, plain_tensor(weights, "model.norm.weight"), head(weights)]


def awq_quantization() -> dict[str, object]:
    """`quantization_config` of `config.json`."""
    return {
        "quant_method": "awq",
        "bits": 4,
        "group_size": 128,
        "zero_point": True,
        "version": "gemm",
        "modules_to_not_convert": ["lm_head"],
    }


def pack_awq(weight: QuantisedWeight) -> NDArray[np.int32]:
    """qweight of a linear's rows [out, in]."""
    outputs = weight.packed.shape[0]
    offset = np.empty((weight.packed.shape[1] * 2, outputs), dtype=np.uint8)
    offset[0::2] = (weight.packed & 15).T
    offset[1::2] = (weight.packed >> 4).T
    eights = offset.reshape(offset.shape[0], outputs // 8, 8)
    packed = np.zeros(eights.shape[:2], dtype=np.uint32)
    for nibble, output in enumerate(ORDER):
        packed |= eights[:, :, output].astype(np.uint32) << np.uint32(4 * nibble)
    return packed.view(np.int32)


def _linear(weights: StoredWeights, part: Part, group_size: int) -> Iterator[TensorOut]:
    found = weights.grouped(part.stored)
    assert found is not None
    if part.count % 8 != 0:
        raise FormatError(
            f"awq packs outputs in eights, {part.name} has {part.count}",
            remedy="take the format modelopt or compressed-tensors for this model",
        )
    k, groups = found.k, found.k // group_size

    def qweight() -> Iterator[NDArray[Any]]:
        yield pack_awq(weights.read_grouped(found, part.rows))

    def scales() -> Iterator[NDArray[Any]]:
        read = weights.read_scales(found, part.rows)
        yield np.ascontiguousarray(read.T).astype(np.float16)

    def zeros() -> Iterator[NDArray[Any]]:
        yield np.full((groups, part.count // 8), ZEROS, dtype=np.uint32)

    yield TensorOut(name=f"{part.name}.qweight", dtype="I32", shape=(k, part.count // 8), parts=qweight)
    yield TensorOut(name=f"{part.name}.qzeros", dtype="I32", shape=(groups, part.count // 8), parts=zeros)
    yield TensorOut(name=f"{part.name}.scales", dtype="F16", shape=(groups, part.count), parts=scales)
