"""The linears of the vision graph that may be in 8 bits: those of the encoder's layers, and the projector's two.

The embedding of patches is not among them: it is a five-hundredth of the weights, and all that the model sees goes
through it. Q, K and V read the same rows, so they share the scale of their input, and count as one product here, `qkv`.

Weights of int8 have a scale for each row, float16 numbers both, and codes with a sign, [N, K], in every dialect.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from phiedge.exporters.config import ModelConfig
from phiedge.exporters.draft import GraphDraft, slot_of
from phiedge.exporters.precision import VisionLinears
from phiedge.exporters.quantised import QuantisedWeight
from phiedge.exporters.tensors import TOWER_PREFIX
from phiedge.exporters.weights import Array, Float8Fill, GroupedFill, Slot

_PATCHES = "tower.embeddings.patch_embedding.weight"
_BITS = 8
_ROUNDED_INPUTS = 4  # in the terms of MatMulNBits: activations are rounded to 8 bits, too
CODES = {"int8": ir.DataType.INT8, "float8": ir.DataType.FLOAT8E4M3FN}


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionLinear:
    """`product` = Gemm(x, W, bias) with W transposed, where W is `slot` [N, K] of the tensor `source`."""

    product: ir.Node
    slot: Slot
    source: str

    @property
    def x(self) -> ir.Value:
        found = self.product.inputs[0]
        assert found is not None
        return found


def vision_linears(draft: GraphDraft) -> Iterator[VisionLinear]:
    """The linears of a traced vision graph, in order; each may be replaced before the next is asked for."""
    for product in list(draft.graph):
        weight = product.inputs[1] if product.op_type == "Gemm" else None
        if weight is None or weight.name not in draft.fills or weight.name == _PATCHES:
            continue
        source = draft.fills[weight.name].source
        assert source is not None
        yield VisionLinear(product=product, slot=slot_of(weight), source=source)


def layer_linears(layer: int) -> dict[str, tuple[str, ...]]:
    """The tensors of each product of an encoder's layer, by the product's name, in the order of the forward pass."""
    block = f"{TOWER_PREFIX}encoder.layers.{layer}."
    return {
        "qkv": tuple(f"{block}self_attn.{part}_proj.weight" for part in "qkv"),
        "out": (f"{block}self_attn.out_proj.weight",),
        "fc1": (f"{block}mlp.fc1.weight",),
        "fc2": (f"{block}mlp.fc2.weight",),
    }


def projector_linears() -> dict[str, tuple[str, ...]]:
    """The same of the projector."""
    return {f"projector.{place}": (f"model.mm_projector.{place}.weight",) for place in (0, 2)}


def vision_sources(config: ModelConfig) -> list[str]:
    """The tensors of all linears that may be in 8 bits."""
    stages = [*map(layer_linears, range(config.vision_layers_used)), projector_linears()]
    return [name for stage in stages for names in stage.values() for name in names]


def vision_fill(linear: VisionLinear, form: VisionLinears) -> GroupedFill | Float8Fill:
    """What stores the weight of a linear: codes [N, K], and a scale for each row behind them."""
    rows, k = linear.slot.shape
    codes = Slot(name=f"{linear.slot.name}.{form}", dtype=CODES[form], shape=(rows, k))
    scales = Slot(name=f"{linear.slot.name}.scales", dtype=ir.DataType.FLOAT16, shape=(rows,))
    if form == "float8":
        return Float8Fill(source=linear.source, shape=(rows, k), slots=(codes, scales))
    return GroupedFill(
        source=linear.source,
        shape=(rows, k),
        bits=_BITS,
        group_size=k,
        accuracy_level=_ROUNDED_INPUTS,
        slots=(codes, scales),
        pack=pack_rows,
    )


def pack_rows(weight: QuantisedWeight) -> tuple[Array, ...]:
    """Codes with a sign [N, K], and float16 scales [N], of weights of 8 bits with a scale for each row."""
    assert weight.bits == _BITS
    assert weight.scales.shape[1] == 1
    scales: NDArray[np.float16] = weight.scales[:, 0].astype(np.float16)
    return weight.codes, scales
