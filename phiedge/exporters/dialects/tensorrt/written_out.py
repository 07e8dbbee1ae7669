"""Operators written out in simpler ones, node by node: what the passes of the conservative form are made of."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from phiedge.exporters.dialects.rewrite import constant
from phiedge.exporters.draft import GraphDraft
from phiedge.exporters.weights import Array


class NodeList:
    """Nodes in the order in which they were asked for, each with the type of its outputs; in no graph yet."""

    def __init__(self, draft: GraphDraft) -> None:
        self._draft = draft
        self.nodes: list[ir.Node] = []

    def constant(self, name: str, array: Array | np.generic) -> ir.Value:
        """A small constant of the graph, shared by all that ask for it by this name."""
        return constant(self._draft, name, array)

    def add(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, int | Sequence[int]] | None = None,
        *,
        dtype: ir.DataType | None = None,
    ) -> ir.Value:
        """The one output of a new node, of the type `dtype`, or of the first input's."""
        (output,) = self.several(op_type, inputs, attributes, outputs=1, dtype=dtype)
        return output

    def several(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, int | Sequence[int]] | None = None,
        *,
        outputs: int,
        dtype: ir.DataType | None = None,
    ) -> tuple[ir.Value, ...]:
        """The outputs of a new node."""
        node = ir.node(op_type, inputs, attributes, num_outputs=outputs)
        wanted = dtype or (inputs[0].dtype if inputs[0] is not None else None)
        assert wanted is not None
        for output in node.outputs:
            output.type = ir.TensorType(wanted)
        self.nodes.append(node)
        return tuple(node.outputs)

    def reshaped(self, value: ir.Value, name: str, shape: Sequence[int]) -> ir.Value:
        """`value` in another shape, which the graph keeps as `name`."""
        return self.add("Reshape", [value, self.constant(f"shape_{name}", np.array(shape))])

    def ordered(self, value: ir.Value, *axes: int) -> ir.Value:
        """`value` with its axes in another order."""
        return self.add("Transpose", [value], {"perm": axes})

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """`value` in the type `dtype`; itself where it has that."""
        return value if value.dtype == dtype else self.add("Cast", [value], {"to": dtype.value}, dtype=dtype)

    def joined(self, values: Sequence[ir.Value], axis: int) -> ir.Value:
        """`values` one after the other along `axis`."""
        return self.add("Concat", values, {"axis": axis})

    def softmax(self, scores: ir.Value, mask: ir.Value | None = None) -> ir.Value:
        """Weights of `scores` along the last axis, in the type of the scores; computed in float32, as published."""
        exact = self.cast(scores, ir.DataType.FLOAT)
        if mask is not None:
            exact = self.add("Add", [exact, mask])
        weights = self.add("Softmax", [exact], {"axis": -1})
        assert scores.dtype is not None
        return self.cast(weights, scores.dtype)
