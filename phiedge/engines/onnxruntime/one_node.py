"""The smallest of ONNX models: one operator, written as the bytes of its protocol buffer.

It is there to measure with, where the onnx package is not installed. Field numbers are those of onnx.proto (IR version
8): a message is a sequence of fields, each a key (number and wire type) and a varint or a run of bytes.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

_IR_VERSION = 8
_OPSET = 13
_VARINT, _BYTES = 0, 2  # wire types
_ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "float16": 10}


def one_product(
    operator: str, *, rows: int, weights: npt.NDArray[Any], input_type: npt.DTypeLike, output_type: npt.DTypeLike
) -> bytes:
    """A model `output = operator(input [rows, k], weights [k, n])`, with constant weights."""
    depth, columns = weights.shape
    return _model(
        _node(operator, "input", "weights")
        + _bytes(5, _tensor("weights", weights))
        + _bytes(11, _value("input", (rows, depth), input_type))
        + _bytes(12, _value("output", (rows, columns), output_type))
    )


def one_by_one(operator: str, *, length: int, dtype: npt.DTypeLike) -> bytes:
    """A model `output [length] = operator(input [length])`, element by element."""
    entering, leaving = (_value(name, (length,), dtype) for name in ("input", "output"))
    return _model(_node(operator, "input") + _bytes(11, entering) + _bytes(12, leaving))


def _model(graph: bytes) -> bytes:
    """A ModelProto around the fields of its graph."""
    return _number(1, _IR_VERSION) + _bytes(8, _number(2, _OPSET)) + _bytes(7, _bytes(2, b"one node") + graph)


def _node(operator: str, *inputs: str) -> bytes:
    """The field of a graph that is its node."""
    entering = b"".join(_bytes(1, name.encode()) for name in inputs)
    return _bytes(1, entering + _bytes(2, b"output") + _bytes(4, operator.encode()))


def _tensor(name: str, array: npt.NDArray[Any]) -> bytes:
    """A TensorProto."""
    dims = b"".join(_number(1, side) for side in array.shape)
    little_endian = array.astype(array.dtype.newbyteorder("<"))
    return dims + _number(2, _element_type(array.dtype)) + _bytes(8, name.encode()) + _bytes(9, little_endian.tobytes())


def _value(name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> bytes:
    """A ValueInfoProto."""
    dims = b"".join(_bytes(1, _number(1, side)) for side in shape)
    tensor_type = _number(1, _element_type(dtype)) + _bytes(2, dims)
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor_type))


def _element_type(dtype: npt.DTypeLike) -> int:
    return _ELEMENT_TYPES[np.dtype(dtype).name]


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits to a byte, lowest first; the eighth says that more follow."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
