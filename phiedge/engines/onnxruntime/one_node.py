"""The smallest of ONNX models: one operator, to measure with."""

from typing import Any

import numpy.typing as npt

from phiedge.engines.onnxruntime.model_bytes import entering, leaving, model, node, tensor

_IR_VERSION = 8
_OPSETS = {"": 13}


def one_product(
    operator: str, *, rows: int, weights: npt.NDArray[Any], input_type: npt.DTypeLike, output_type: npt.DTypeLike
) -> bytes:
    """A model `output = operator(input [rows, k], weights [k, n])`, with constant weights."""
    depth, columns = weights.shape
    return _model(
        node(operator, ["input", "weights"], ["output"]),
        tensor("weights", weights),
        entering("input", (rows, depth), input_type),
        leaving("output", (rows, columns), output_type),
    )


def one_by_one(operator: str, *, length: int, dtype: npt.DTypeLike) -> bytes:
    """A model `output [length] = operator(input [length])`, element by element."""
    return _model(
        node(operator, ["input"], ["output"]),
        entering("input", (length,), dtype),
        leaving("output", (length,), dtype),
    )


def _model(*fields: bytes) -> bytes:
    return model(b"".join(fields), ir_version=_IR_VERSION, opsets=_OPSETS)
