"""An ONNX graph that is written node by node, without the onnx package, and opened on ONNX Runtime.

Its weights are noise. Small constants stand in the model's bytes; weights are handed over beside them, as a protocol
buffer holds less than 2 GiB.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from phiedge.engines.aligned import aligned_zeros
from phiedge.engines.onnxruntime.buffers import alias
from phiedge.engines.onnxruntime.graph_run import session_options
from phiedge.engines.onnxruntime.library import ort
from phiedge.engines.onnxruntime.model_bytes import (
    Attribute,
    Side,
    entering,
    leaving,
    model,
    node,
    outside_tensor,
    tensor,
)

MICROSOFT = "com.microsoft"
_IR_VERSION, _OPSETS = 10, {"": 23, MICROSOFT: 1}  # as the exporter writes them
_NOISE = 2**20  # numbers that are drawn, and repeated to fill a weight


class PlainGraph:
    """Nodes, weights, inputs and outputs, in the order in which they were added."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._others: list[bytes] = []
        self._weights: dict[str, npt.NDArray[Any]] = {}
        self._count = 0
        self._random = np.random.default_rng(0)

    @property
    def weights_bytes(self) -> int:
        """What the weights take."""
        return sum(array.nbytes for array in self._weights.values())

    def node(self, operator: str, inputs: Sequence[str], *, domain: str = "", **attributes: Attribute) -> str:
        """Add an operator; returns the name of its output."""
        (output,) = self.node_of(operator, inputs, [self._name()], domain=domain, **attributes)
        return output

    def node_of(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str], *, domain: str = "", **attributes: Attribute
    ) -> Sequence[str]:
        """Add an operator with these outputs; an empty name leaves one out."""
        self._nodes.append(node(operator, inputs, outputs, domain=domain, attributes=attributes))
        return outputs

    def fresh(self) -> str:
        """A name that nothing has yet."""
        return self._name()

    def constant(self, array: npt.NDArray[Any]) -> str:
        """Add a small constant."""
        name = self._name()
        self._others.append(tensor(name, array))
        return name

    def floats(self, *shape: int, scale: float) -> str:
        """Add a weight of numbers between -`scale` and `scale`."""
        drawn = self._random.uniform(-scale, scale, _NOISE).astype(np.float32)
        return self._weight(shape, drawn)

    def ones(self, length: int) -> str:
        """Add a weight of ones."""
        return self._weight((length,), np.ones(1, np.float32))

    def level(self, *shape: int, value: float) -> str:
        """Add a weight that is the same everywhere."""
        return self._weight(shape, np.full(1, value, np.float32))

    def codes(self, *shape: int) -> str:
        """Add a weight of any bytes."""
        return self._weight(shape, self._random.integers(0, 256, _NOISE, dtype=np.uint8))

    def input(self, name: str, shape: Sequence[Side], dtype: npt.DTypeLike) -> str:
        """Add an input."""
        self._others.append(entering(name, shape, dtype))
        return name

    def output(self, name: str, shape: Sequence[Side], dtype: npt.DTypeLike) -> None:
        """Let a value leave the graph."""
        self._others.append(leaving(name, shape, dtype))

    def to_bytes(self) -> bytes:
        """The model, without the data of its weights."""
        weights = [outside_tensor(name, array.shape, array.dtype) for name, array in self._weights.items()]
        return model(b"".join([*self._nodes, *weights, *self._others]), ir_version=_IR_VERSION, opsets=_OPSETS)

    def open(self, threads: int) -> ort.InferenceSession:
        """A session with the options of every graph."""
        options = session_options(threads)
        options.add_external_initializers(list(self._weights), [alias(array) for array in self._weights.values()])
        return ort.InferenceSession(self.to_bytes(), sess_options=options, providers=["CPUExecutionProvider"])

    def _weight(self, shape: Sequence[int], values: npt.NDArray[Any]) -> str:
        name = self._name()
        array = aligned_zeros(tuple(shape), values.dtype)
        flat = array.reshape(-1)
        for start in range(0, flat.size, values.size):
            flat[start : start + values.size] = values[: flat.size - start]
        self._weights[name] = array
        return name

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count}"
