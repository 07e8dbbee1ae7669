"""A graph on its way from the trace to a file: the model, and what fills each of its weights.

A dialect rewrites both together: a weight that changes its form gets another fill. Weights have no values before the
writer has been.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from phiedge.errors import ExportError
from phiedge.exporters.weights import Array, ComputedFill, Fill, FloatFill, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphDraft:
    """`fills` is in the order of the forward pass; keys are the traced parameters, whatever form they took since."""

    model: ir.Model
    fills: dict[str, Fill]

    @property
    def graph(self) -> ir.Graph:
        return self.model.graph

    def copy(self) -> "GraphDraft":
        """Another draft of the same graph, for another dialect to rewrite."""
        return GraphDraft(model=self.model.clone(), fills=dict(self.fills))

    def sources(self) -> list[str]:
        """The checkpoint tensors that this graph consumes."""
        return [fill.source for fill in self.fills.values() if fill.source is not None]


def draft_graph(
    model: ir.Model,
    *,
    checkpoint_name: Callable[[str], str],
    computed: Mapping[str, Callable[[], Array]],
) -> GraphDraft:
    """Give every weight of a traced model its fill: computed values, or the tensor `checkpoint_name(parameter)`."""
    fills: dict[str, Fill] = {}
    for parameter, value in model.graph.initializers.items():
        if value.const_value is None:
            slot = slot_of(value)
            if parameter in computed:
                fills[parameter] = ComputedFill(slot=slot, values=computed[parameter])
            else:
                fills[parameter] = FloatFill(source=checkpoint_name(parameter), slot=slot)
    return GraphDraft(model=model, fills=fills)


def slot_of(value: ir.Value) -> Slot:
    """The slot of an initializer whose type and shape are known."""
    assert value.name is not None
    assert value.dtype is not None
    assert value.shape is not None
    return Slot(name=value.name, dtype=value.dtype, shape=tuple(int(side) for side in value.shape.numpy()))


def check_consumed(consumed: Iterable[str], used: Iterable[str]) -> None:
    """Hold what an export consumes against the tensors that the architecture uses: each exactly once.

    Raises `ExportError` naming the first tensor for which that does not hold.
    """
    counts: dict[str, int] = dict.fromkeys(used, 0)
    for name in consumed:
        if name not in counts:
            raise ExportError(f"the export reads {name}, which the architecture does not use")
        counts[name] += 1
    for name, count in counts.items():
        if count != 1:
            raise ExportError(f"the export reads {name} {count} times instead of once")
