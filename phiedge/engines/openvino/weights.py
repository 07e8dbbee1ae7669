"""The initializers of an ONNX graph by name, read without the onnx package, which a device does not have.

Only what is needed of the format is understood: protobuf's wire types, and of a model its graph's initializers with
their names, shapes, types and places. Weights in the file beside the graph are mapped, never read as a whole.
Source: onnx/onnx.proto (ModelProto, GraphProto, TensorProto), and protobuf's encoding.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from phiedge.engines.interface import Array
from phiedge.errors import BundleError

Field: TypeAlias = tuple[int, int | memoryview]

_GRAPH, _INITIALIZER = 7, 5  # in ModelProto, in GraphProto
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _EXTERNAL_DATA = 1, 2, 8, 9, 13  # in TensorProto
_KEY, _VALUE = 1, 2  # in StringStringEntryProto
_DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 10: np.float16}
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


@dataclass(slots=True, kw_only=True)
class _Tensor:
    name: str = ""
    shape: list[int] = field(default_factory=list)
    data_type: int = 0
    raw: memoryview | None = None
    external: dict[str, str] = field(default_factory=dict)


def read_weights(graph: Path) -> dict[str, Array]:
    """Every initializer of the model in `graph` by name; those beside it as views of the mapped file.

    Raises `BundleError` where the file is not such a model.
    """
    try:
        model = memoryview(graph.read_bytes())
        tensors = [_tensor(part) for part in _messages(_message(model, _GRAPH), _INITIALIZER)]
        files = {name: _map(graph.with_name(name)) for name in {t.external["location"] for t in tensors if t.external}}
        return {tensor.name: _array(tensor, files) for tensor in tensors}
    except (IndexError, KeyError, ValueError, OSError) as error:
        raise BundleError(
            f"{graph} is not a graph with weights: {error or type(error).__name__}",
            remedy="check the bundle: phiedge verify",
        ) from error


def _array(tensor: _Tensor, files: dict[str, memoryview]) -> Array:
    dtype = np.dtype(_DTYPES[tensor.data_type])
    count = int(np.prod(tensor.shape, dtype=np.int64))
    if tensor.external:
        start = int(tensor.external.get("offset", "0"))
        source = files[tensor.external["location"]]
    else:
        start = 0
        source = memoryview(b"") if tensor.raw is None else tensor.raw
    array: Array = np.frombuffer(source, dtype, count, start)
    return array.reshape(tensor.shape)


def _map(path: Path) -> memoryview:
    if not path.is_file():
        return memoryview(b"")
    with path.open("rb") as file:  # a private mapping: OpenVINO refers only to memory that it could write to
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


def _tensor(data: memoryview) -> _Tensor:
    tensor = _Tensor()
    for number, value in _fields(data):
        if number == _DIMS:
            packed = _varints(value) if isinstance(value, memoryview) else [value]
            tensor.shape.extend(packed)
        elif number == _DATA_TYPE and isinstance(value, int):
            tensor.data_type = value
        elif number == _NAME and isinstance(value, memoryview):
            tensor.name = str(value, "utf-8")
        elif number == _RAW_DATA and isinstance(value, memoryview):
            tensor.raw = value
        elif number == _EXTERNAL_DATA and isinstance(value, memoryview):
            entry = {key: str(text, "utf-8") for key, text in _fields(value) if isinstance(text, memoryview)}
            tensor.external[entry[_KEY]] = entry[_VALUE]
    return tensor


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    return (value for number, value in _fields(data) if number == wanted and isinstance(value, memoryview))


def _message(data: memoryview, wanted: int) -> memoryview:
    found = next(_messages(data, wanted), None)
    if found is None:
        raise ValueError(f"no field {wanted}")
    return found


def _fields(data: memoryview) -> Iterator[Field]:
    """The fields of a message: their numbers, and a number or the bytes of each."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _LENGTH:
            size, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"protobuf's wire type {kind}")
        if at + size > len(data):
            raise ValueError("it ends in the middle of a field")
        yield number, data[at : at + size]
        at += size


def _varints(data: memoryview) -> list[int]:
    found, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        found.append(value)
    return found


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
