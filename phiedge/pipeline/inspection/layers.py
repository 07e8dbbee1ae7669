"""The linear layers of a bundle, each as its graphs store it, with what quantisation cost it.

A layer is a product with a matrix that nothing but weights goes into. What it is stored as is read off the graph: the
bits of the product or the type of the weights, the group off the node that dequantises. So this holds also where the
manifest's summary does not tell apart one layer from another.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from phiedge.bundle.graph_file import GraphFile, GraphNode, Weight
from phiedge.exporters.tensors import vision_tensor
from phiedge.pipeline.inspection.graphs import DialectGraphs

# By operator, the operands that weights of its matrix come in as.
_PRODUCTS = {
    "MatMul": slice(1, 2),
    "Gemm": slice(1, 2),
    "MatMulNBits": slice(1, None),
    "MatMulIntegerToFloat": slice(1, 4, 2),
}
_STORAGE = re.compile(r"\.(int\d+|float\d+|scales)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One linear layer: `shape` [N, K] counts weights, `stored_bytes` has their scales, too.

    `group_size` weights along K share a scale of the type `scales_as`; both are None for floats. The matrix begins at
    `offset_bytes` of `file`. `dialects` are those whose graphs have the layer so. `relative_l2` and `max_abs_error` are
    against the checkpoint, None where unknown.
    """

    name: str
    part: str
    stored_as: str
    scales_as: str | None
    group_size: int | None
    shape: tuple[int, ...]
    stored_bytes: int
    file: str
    offset_bytes: int
    dialects: tuple[str, ...]
    relative_l2: float | None = None
    max_abs_error: float | None = None

    @property
    def weights(self) -> int:
        """How many there are."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisationError:
    """What `quantization.json` says about one tensor."""

    relative_l2: float
    max_abs_error: float


def find_layers(dialects: Sequence[DialectGraphs], errors: Mapping[str, QuantisationError]) -> tuple[Layer, ...]:
    """Every linear layer in the order of the forward pass; one that dialects store differently comes once for each.

    `errors` are by the name of the checkpoint's tensor.
    """
    found: dict[Layer, tuple[str, ...]] = {}
    for part in ("vision", "decoder"):
        for read in dialects:
            for layer in _layers(read.graphs[part], part):
                found[layer] = (*found.get(layer, ()), read.name)
    return tuple(_told(layer, names, _error(layer, errors)) for layer, names in found.items())


def _error(layer: Layer, errors: Mapping[str, QuantisationError]) -> QuantisationError | None:
    name = f"{layer.name}.weight"
    return errors.get(name if layer.part in ("decoder", "lm_head") else vision_tensor(name))


def _told(layer: Layer, dialects: tuple[str, ...], error: QuantisationError | None) -> Layer:
    told = replace(layer, dialects=dialects)
    if error is None:
        return told
    return replace(told, relative_l2=error.relative_l2, max_abs_error=error.max_abs_error)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """What a value is made of that nothing but weights goes into, and the group in which they were dequantised."""

    weights: tuple[Weight, ...]
    group_size: int | None = None


def _layers(graph: GraphFile, part: str) -> Iterator[Layer]:
    """The products with weights, in the order of the file, which is that in which the graph is computed."""
    made = {weight.name: _Origin(weights=(weight,)) for weight in graph.weights}
    for node in graph.nodes:
        operands = [value for value in node.inputs if value]
        if all(value in made for value in operands):
            made |= dict.fromkeys(node.outputs, _join([made[value] for value in operands], node))
        elif node.op_type in _PRODUCTS and operands[0] not in made:
            matrix = operands[_PRODUCTS[node.op_type]]
            origin = _join([made[value] for value in matrix if value in made], node)
            if any(weight.file is not None for weight in origin.weights):
                yield _layer(node, origin, part)


def _join(origins: Sequence[_Origin], node: GraphNode) -> _Origin:
    groups = [node.integers.get("block_size"), *(origin.group_size for origin in origins)]
    return _Origin(
        weights=tuple(dict.fromkeys(weight for origin in origins for weight in origin.weights)),
        group_size=next((group for group in groups if group is not None), None),
    )


def _layer(product: GraphNode, origin: _Origin, part: str) -> Layer:
    stored = [weight for weight in origin.weights if weight.file is not None]
    matrix = max(stored, key=lambda weight: weight.size_bytes)
    assert matrix.file is not None
    attributes, rest = product.integers, [weight for weight in stored if weight is not matrix]
    name = _STORAGE.sub("", matrix.name).removesuffix(".weight")
    return Layer(
        name=name,
        part=_part(name, part),
        stored_as=f"int{attributes['bits']}" if "bits" in attributes else matrix.dtype,
        scales_as=rest[0].dtype if origin.group_size is not None and rest else None,
        group_size=origin.group_size,
        shape=(attributes["N"], attributes["K"]) if {"N", "K"} <= attributes.keys() else matrix.shape,
        stored_bytes=sum(weight.size_bytes for weight in stored),
        file=matrix.file,
        offset_bytes=matrix.offset,
        dialects=(),
    )


def _part(name: str, graph: str) -> str:
    if name == "lm_head":
        return name
    return "projector" if name.startswith("mm_projector") else graph
