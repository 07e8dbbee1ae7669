"""Walking the network that TensorRT's parser made of a graph, before anything is built from it.

The parser accepts operands that it then ignores, so that what it accepted is no proof. What is looked at is what the
builder will see: inputs and outputs, whether every attention has its mask, and whether every cache is written in place.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from phiedge.engines.tensorrt.capabilities import CONSERVATIVE_DIALECT
from phiedge.engines.tensorrt.ports import Port
from phiedge.engines.tensorrt.request import BuildRequest
from phiedge.errors import BundleError

_REMEDY = "export the bundle again with this version of phiedge; if that does not help, report it"
_QUERY_KEY_VALUE = 3


def check_network(network: Any, trt: Any, request: BuildRequest) -> None:
    """Refuse a network that is not what the request says. Raises `BundleError` naming what differs."""
    _check_ports("input", list(_inputs(network)), request.ports.inputs, trt)
    _check_ports("output", list(_outputs(network)), request.ports.outputs, trt)
    if request.dialect != CONSERVATIVE_DIALECT:  # that one has neither operator: they are written out
        _check_attentions(network, trt, request)
        _check_caches(network, trt, request)


def _check_ports(kind: str, found: Sequence[Any], wanted: Sequence[Port], trt: Any) -> None:
    types = {"float16": trt.float16, "float32": trt.float32, "int64": trt.int64}
    by_name = {tensor.name: tensor for tensor in found}
    for port in wanted:
        tensor = by_name.pop(port.name, None)
        if tensor is None:
            raise BundleError(f"the graph has no {kind} {port.name!r}", remedy=_REMEDY)
        if tuple(tensor.shape) != port.shape or tensor.dtype != types[port.dtype]:
            raise BundleError(
                f"the graph's {kind} {port.name!r} is {list(tensor.shape)} of {tensor.dtype.name}, "
                f"wanted is {list(port.shape)} of {port.dtype}",
                remedy=_REMEDY,
            )
    if by_name:
        raise BundleError(f"the graph has an {kind} that nobody knows: {', '.join(by_name)}", remedy=_REMEDY)


def _check_attentions(network: Any, trt: Any, request: BuildRequest) -> None:
    attentions = list(_layers(network, trt.LayerType.ATTENTION_INPUT))
    if len(attentions) != request.attentions:
        raise BundleError(
            f"TensorRT found {len(attentions)} attentions in the {request.part} graph, it has {request.attentions}",
            remedy=_REMEDY,
        )
    operands = _QUERY_KEY_VALUE + (request.part == "decoder")  # a picture's patches all see one another
    for layer in attentions:
        if layer.num_inputs != operands or any(layer.get_input(index) is None for index in range(operands)):
            raise BundleError(
                f"TensorRT reads {layer.name} with {layer.num_inputs} operands, the graph has {operands}: "
                "it would attend to positions that were never written",
                remedy=_REMEDY,
            )


def _check_caches(network: Any, trt: Any, request: BuildRequest) -> None:
    found = sum(1 for _ in _layers(network, trt.LayerType.KV_CACHE_UPDATE))
    if found != request.caches:
        raise BundleError(f"TensorRT updates {found} caches in place, the graph has {request.caches}", remedy=_REMEDY)


def _layers(network: Any, kind: Any) -> Iterator[Any]:
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return (layer for layer in layers if layer.type == kind)


def _inputs(network: Any) -> Iterator[Any]:
    return (network.get_input(index) for index in range(network.num_inputs))


def _outputs(network: Any) -> Iterator[Any]:
    return (network.get_output(index) for index in range(network.num_outputs))
