"""The model's table of positions, resized in the graph to the grid of every picture in the call.

Edge-LLM's host samples four taps per patch without the antialiasing that this encoder was trained with, which is wrong
for every picture with fewer than 16 patches to a side, and older releases placed the taps otherwise. So the taps are
not used for what they say of the table, but for what they cannot hide: along a row of patches they move right, and
where they fall back to the left a row begins. From that, and from where each picture begins, follow its rows and
columns; and from those the resize has a closed form (`phiedge.runtime.positions`), two small matrices and one product.

Whether taps stand on the corners of the table or on the centres of its cells makes no difference: only a step back by
more than a quarter of the table counts, and a row of two patches already steps by half of it.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.tape import Tape

_FLOAT, _INT64, _FLOAT16 = (int(kind) for kind in (ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.FLOAT16))


class PositionGraph:
    """Writes the nodes; `nodes` and `initializers` are to be put into a graph, `embed` gives the value to use."""

    def __init__(self, table: NDArray[np.float32], *, side: int) -> None:
        assert table.shape[0] == side * side
        self._tape = Tape()
        self._side = side
        self._table = self._constant("position_table", table)

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        return tuple(self._tape.nodes)

    @property
    def initializers(self) -> tuple[ir.Value, ...]:
        return tuple(self._tape.initializers)

    def embed(self, indices: ir.Value, weights: ir.Value, bounds: ir.Value) -> ir.Value:
        """Position embeddings [patches, channels] in float16 for the taps `indices`, `weights` [4, patches] and the
        pictures that begin and end at `bounds` [pictures + 1].
        """
        op = self._tape.op
        columns = self._tap_columns(indices, weights)
        within, belongs, lengths = self._places(columns, bounds)
        heights = self._heights(columns, within, belongs, lengths)
        height = self._at_least_one(self._for_each_patch(heights, belongs))
        width = self._at_least_one(op("Div", [self._for_each_patch(lengths, belongs), height]))
        half = self._constant("half", np.float32(0.5))
        row = op("Floor", [op("Div", [op("Add", [within, half]), width])])
        column = op("Sub", [within, op("Mul", [row, width])])
        vertical = op("Unsqueeze", [self._shares(row, height), self._axis(2)])
        horizontal = op("Unsqueeze", [self._shares(column, width), self._axis(1)])
        cells = self._constant("cells", np.array([-1, self._side**2], dtype=np.int64))
        shares = op("Reshape", [op("Mul", [vertical, horizontal]), cells])
        return op("Cast", [op("MatMul", [shares, self._table])], {"to": _FLOAT16})

    def _tap_columns(self, indices: ir.Value, weights: ir.Value) -> ir.Value:
        """Where in the table's width each patch's taps lie on average, [patches]."""
        op = self._tape.op
        columns = op("Mod", [indices, self._constant("side", np.int64(self._side))])
        weighted = op("Mul", [op("Cast", [columns], {"to": _FLOAT}), op("Cast", [weights], {"to": _FLOAT})])
        return op("ReduceSum", [weighted, self._axis(0)], {"keepdims": 0})

    def _places(self, columns: ir.Value, bounds: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Each patch's place in its picture [patches], what belongs to which [pictures, patches], and lengths."""
        op = self._tape.op
        count = op("Squeeze", [op("Shape", [columns]), self._axis(0)])
        order = op("Range", [self._constant("zero", np.int64(0)), count, self._constant("one", np.int64(1))])
        order = op("Cast", [order], {"to": _FLOAT})
        edges = op("Cast", [bounds], {"to": _FLOAT})
        first, last = self._constant("first", np.array([0])), self._constant("last", np.array([-1]))
        second, end = self._constant("second", np.array([1])), self._constant("end", np.array([2**31 - 1]))
        begins, ends = op("Slice", [edges, first, last]), op("Slice", [edges, second, end])
        after = op(
            "GreaterOrEqual", [op("Unsqueeze", [order, self._axis(0)]), op("Unsqueeze", [begins, self._axis(1)])]
        )
        before = op("Less", [op("Unsqueeze", [order, self._axis(0)]), op("Unsqueeze", [ends, self._axis(1)])])
        belongs = op("Cast", [op("And", [after, before])], {"to": _FLOAT})
        within = op("Sub", [order, self._for_each_patch(begins, belongs)])
        return within, belongs, op("Sub", [ends, begins])

    def _heights(self, columns: ir.Value, within: ir.Value, belongs: ir.Value, lengths: ir.Value) -> ir.Value:
        """The rows of each picture [pictures]: where its taps step back, and its patches if they never go right."""
        op = self._tape.op
        first, last = self._constant("first", np.array([0])), self._constant("last", np.array([-1]))
        second = self._constant("second", np.array([1]))
        before = op("Concat", [op("Slice", [columns, first, second]), op("Slice", [columns, first, last])], {"axis": 0})
        quarter = self._constant("quarter", np.float32(self._side / 4))
        begins = op("Less", [within, self._constant("half", np.float32(0.5))])
        steps_back = op("Or", [begins, op("Greater", [op("Sub", [before, columns]), quarter])])
        order = op("Cast", [self._first_patches(within)], {"to": _INT64})
        leftmost = op("Gather", [columns, order])
        goes_right = op("Greater", [op("Sub", [columns, leftmost]), quarter])
        rows, rightward = self._of_each_picture(steps_back, belongs), self._of_each_picture(goes_right, belongs)
        is_wide = op("Greater", [rightward, self._constant("half", np.float32(0.5))])
        return op("Where", [is_wide, rows, lengths])

    def _first_patches(self, within: ir.Value) -> ir.Value:
        """The index of the first patch of each patch's picture, as floats [patches]."""
        op = self._tape.op
        count = op("Squeeze", [op("Shape", [within]), self._axis(0)])
        order = op("Range", [self._constant("zero", np.int64(0)), count, self._constant("one", np.int64(1))])
        return op("Sub", [op("Cast", [order], {"to": _FLOAT}), within])

    def _shares(self, place: ir.Value, count: ir.Value) -> ir.Value:
        """How the positions `place` of `count` mix the table's rows, [patches, side]; rows sum to 1."""
        op = self._tape.op
        half, one = self._constant("half", np.float32(0.5)), self._constant("one_float", np.float32(1))
        stretch = op("Div", [self._constant("side_float", np.float32(self._side)), count])
        radius = op("Unsqueeze", [op("Max", [stretch, one]), self._axis(1)])
        centre = op("Unsqueeze", [op("Mul", [op("Add", [place, half]), stretch]), self._axis(1)])
        cells = self._constant("centres", (np.arange(self._side) + 0.5).astype(np.float32)[None])
        far = op("Div", [op("Abs", [op("Sub", [cells, centre])]), radius])
        shares = op("Max", [op("Sub", [one, far]), self._constant("zero_float", np.float32(0))])
        total = op("ReduceSum", [shares, self._axis(1)], {"keepdims": 1})
        return op("Div", [shares, op("Max", [total, self._constant("least", np.float32(2**-10))])])

    def _for_each_patch(self, of_pictures: ir.Value, belongs: ir.Value) -> ir.Value:
        """From [pictures] to [patches]."""
        op = self._tape.op
        row = op("MatMul", [op("Unsqueeze", [of_pictures, self._axis(0)]), belongs])
        return op("Squeeze", [row, self._axis(0)])

    def _of_each_picture(self, of_patches: ir.Value, belongs: ir.Value) -> ir.Value:
        """How many patches of each picture something holds for: from [patches] to [pictures]."""
        op = self._tape.op
        column = op("Unsqueeze", [op("Cast", [of_patches], {"to": _FLOAT}), self._axis(1)])
        return op("Squeeze", [op("MatMul", [belongs, column]), self._axis(1)])

    def _at_least_one(self, counts: ir.Value) -> ir.Value:
        """Rows that belong to no picture must not divide by zero."""
        return self._tape.op("Max", [counts, self._constant("one_float", np.float32(1))])

    def _axis(self, axis: int) -> ir.Value:
        return self._constant(f"axis_{axis}", np.array([axis]))

    def _constant(self, name: str, array: "NDArray[np.generic] | np.generic") -> ir.Value:
        name = f"positions.{name}"
        for value in self._tape.initializers:
            if value.name == name:
                return value
        return self._tape.initializer(ir.tensor(np.asarray(array), name=name), name=name)
