"""What is looked at in a parsed network, on networks of the real TensorRT-RTX that are made by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import tensorrt_rtx as trt

from phiedge.engines.tensorrt.network_walk import check_network
from phiedge.engines.tensorrt.ports import ANY, Port, Ports
from phiedge.engines.tensorrt.request import BuildRequest
from phiedge.errors import BundleError

HEADS, CAPACITY, SIZE = 2, 64, 16
CACHE = (1, HEADS, CAPACITY, SIZE)
PORTS = Ports(
    inputs=(
        Port(name="rows", shape=(1, HEADS, ANY, SIZE), dtype="float16"),
        Port(name="mask", shape=(1, 1, ANY, CAPACITY), dtype="float16"),
        Port(name="index", shape=(1,), dtype="int64"),
        *(Port(name=f"past.0.{part}", shape=CACHE, dtype="float16") for part in ("key", "value")),
    ),
    outputs=(
        Port(name="attended", shape=(1, HEADS, ANY, SIZE), dtype="float16"),
        *(Port(name=f"present.0.{part}", shape=CACHE, dtype="float16") for part in ("key", "value")),
    ),
)
TYPES = {"float16": trt.float16, "int64": trt.int64}


def request(part: str = "decoder", ports: Ports = PORTS, attentions: int = 1) -> BuildRequest:
    return BuildRequest(
        backend="tensorrt-rtx",
        part=part,
        dialect="tensorrt",
        graph="decoder.onnx",
        engine="decoder.engine",
        layers="decoder.layers.json",
        sms=(89,),
        ports=ports,
        profiles=((1, 1, 1),),
        attentions=attentions,
        capacity=CAPACITY,
        timing_cache=None,
        threads=None,
    )


class Network:
    """A network of one attention with its caches, as the parser makes it; and what it hangs on."""

    def __init__(self, *, masked: bool = True, in_place: bool = True, extra: bool = False) -> None:
        self.builder = trt.Builder(QUIET)
        self.network = self.builder.create_network(0)
        inputs = {port.name: self.network.add_input(port.name, TYPES[port.dtype], port.shape) for port in PORTS.inputs}
        rows, caches = inputs["rows"], []
        for part in ("key", "value"):
            past = inputs[f"past.0.{part}"]
            if in_place:
                update = self.network.add_kv_cache_update(past, rows, inputs["index"], trt.KVCacheMode.LINEAR)
                present = update.get_output(0)
            else:
                present = self.network.add_identity(past).get_output(0)
            present.name = f"present.0.{part}"
            caches.append(present)
        attention = self.network.add_attention(rows, *caches, trt.AttentionNormalizationOp.SOFTMAX, False)
        if masked:
            attention.mask = inputs["mask"]
        attention.get_output(0).name = "attended"
        for tensor in (attention.get_output(0), *caches):
            self.network.mark_output(tensor)
        if extra:
            self.network.mark_output(self.network.add_identity(rows).get_output(0))


class _Quiet(trt.ILogger):
    def log(self, severity: Any, message: str) -> None:
        pass


QUIET = _Quiet()


def test_a_network_as_it_must_be_passes() -> None:
    check_network(Network().network, trt, request())


@pytest.mark.parametrize(
    ("network", "asked", "message"),
    [
        (lambda: Network(masked=False), request(), r"with 3 operands, the graph has 4: it would attend to positions"),
        (lambda: Network(in_place=False), request(), "TensorRT updates 0 caches in place, the graph has 2"),
        (Network, request(attentions=2), "TensorRT found 1 attentions in the decoder graph, it has 2"),
        (Network, request("vision"), "with 4 operands, the graph has 3"),
        (lambda: Network(extra=True), request(), "the graph has an output that nobody knows"),
        (
            Network,
            request(ports=Ports(inputs=PORTS.inputs, outputs=PORTS.outputs[1:])),
            "an output that nobody knows: attended",
        ),
        (
            Network,
            request(
                ports=Ports(
                    inputs=(*PORTS.inputs, Port(name="last_row", shape=(1,), dtype="int64")), outputs=PORTS.outputs
                )
            ),
            "the graph has no input 'last_row'",
        ),
        (
            Network,
            request(
                ports=Ports(
                    inputs=(Port(name="rows", shape=(1, HEADS, ANY, 32), dtype="float16"), *PORTS.inputs[1:]),
                    outputs=PORTS.outputs,
                )
            ),
            r"input 'rows' is \[1, 2, -1, 16\] of HALF, wanted is \[1, 2, -1, 32\] of float16",
        ),
        (
            Network,
            request(
                ports=Ports(
                    inputs=(Port(name="rows", shape=(1, HEADS, ANY, SIZE), dtype="float32"), *PORTS.inputs[1:]),
                    outputs=PORTS.outputs,
                )
            ),
            "of HALF, wanted is .* of float32",
        ),
    ],
)
def test_a_network_that_is_something_else_is_refused(
    network: Callable[[], Network], asked: BuildRequest, message: str
) -> None:
    made = network()
    with pytest.raises(BundleError, match=message):
        check_network(made.network, trt, asked)
