"""The protocol buffers of an ONNX model, written by hand where the onnx package is not installed.

Field numbers are those of onnx.proto: a message is a sequence of fields, each a key (number and wire type) and a
varint, four bytes, or a run of bytes. Only what the models of this package need is here.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Attribute: TypeAlias = "int | float | str | tuple[int, ...]"
Side: TypeAlias = "int | str"  # a length, or the name of one that varies

_VARINT, _BYTES, _FOUR_BYTES = 0, 2, 5  # wire types
_ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "float16": 10}
_OF_FLOAT, _OF_INT, _OF_STRING, _OF_INTS = 1, 2, 3, 7  # kinds of attributes
_EXTERNAL = 1  # where the data of a tensor is


def model(graph: bytes, *, ir_version: int, opsets: Mapping[str, int]) -> bytes:
    """A ModelProto around the fields of its graph; `opsets` gives the version of each domain."""
    imports = b"".join(
        content(8, content(1, domain.encode()) + number(2, version)) for domain, version in opsets.items()
    )
    return number(1, ir_version) + imports + content(7, content(2, b"graph") + graph)


def node(
    operator: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    domain: str = "",
    attributes: Mapping[str, Attribute] | None = None,
) -> bytes:
    """The field of a graph that is one node; an empty name is an input or output that is left out."""
    names = b"".join(content(1, name.encode()) for name in inputs)
    names += b"".join(content(2, name.encode()) for name in outputs)
    told = b"".join(content(5, _attribute(name, value)) for name, value in (attributes or {}).items())
    return content(1, names + content(4, operator.encode()) + told + (content(7, domain.encode()) if domain else b""))


def tensor(name: str, array: npt.NDArray[Any]) -> bytes:
    """The field of a graph that is a weight."""
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return content(5, _described(name, array.shape, array.dtype) + content(9, data))


def outside_tensor(name: str, shape: Sequence[int], dtype: npt.DTypeLike) -> bytes:
    """The field of a graph that is a weight whose data is handed over when the graph is opened."""
    told = content(1, b"location") + content(2, b"handed over")
    return content(5, _described(name, shape, dtype) + content(13, told) + number(14, _EXTERNAL))


def entering(name: str, shape: Sequence[Side], dtype: npt.DTypeLike) -> bytes:
    """The field of a graph that is one of its inputs."""
    return content(11, _value(name, shape, dtype))


def leaving(name: str, shape: Sequence[Side], dtype: npt.DTypeLike) -> bytes:
    """The field of a graph that is one of its outputs."""
    return content(12, _value(name, shape, dtype))


def number(field: int, value: int) -> bytes:
    """A field with a whole number; a negative one takes ten bytes, as two's complement of 64 bits."""
    return _varint(field << 3 | _VARINT) + _varint(value & (1 << 64) - 1)


def content(field: int, held: bytes) -> bytes:
    """A field with a run of bytes: a string, or another message."""
    return _varint(field << 3 | _BYTES) + _varint(len(held)) + held


def _attribute(name: str, value: Attribute) -> bytes:
    told = content(1, name.encode())
    if isinstance(value, str):
        return told + content(4, value.encode()) + number(20, _OF_STRING)
    if isinstance(value, float):
        return told + _varint(2 << 3 | _FOUR_BYTES) + struct.pack("<f", value) + number(20, _OF_FLOAT)
    if isinstance(value, tuple):
        return told + b"".join(number(8, each) for each in value) + number(20, _OF_INTS)
    return told + number(3, value) + number(20, _OF_INT)


def _described(name: str, shape: Sequence[int], dtype: npt.DTypeLike) -> bytes:
    """All of a TensorProto but its data."""
    return b"".join(number(1, side) for side in shape) + number(2, _element_type(dtype)) + content(8, name.encode())


def _value(name: str, shape: Sequence[Side], dtype: npt.DTypeLike) -> bytes:
    """A ValueInfoProto."""
    sides = (content(2, side.encode()) if isinstance(side, str) else number(1, side) for side in shape)
    dims = b"".join(content(1, side) for side in sides)
    tensor_type = number(1, _element_type(dtype)) + content(2, dims)
    return content(1, name.encode()) + content(2, content(1, tensor_type))


def _element_type(dtype: npt.DTypeLike) -> int:
    return _ELEMENT_TYPES[np.dtype(dtype).name]


def _varint(value: int) -> bytes:
    """Seven bits to a byte, lowest first; the eighth says that more follow."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
