"""What a graph file (`*.onnx`) says: its nodes, inputs and outputs, and where its weights lie.

A device has no `onnx`, and ONNX Runtime would read gigabytes of weights to tell what a few hundred kilobytes say. This
reads those, and no more of the format than phiedge writes: no subgraphs, no functions, no sparse tensors; a file with
any of them is refused, not half understood. It never opens the files that weights lie in.

Field numbers: onnx.proto3 of ONNX 1.20 (github.com/onnx/onnx, onnx/onnx.proto3). Why no library:
docs/decisions/0821-how-are-graphs-read-on-a-device.md.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from phiedge.bundle.paths import check_relative
from phiedge.bundle.protobuf import Field, data, fields, number, numbers, signed, text
from phiedge.errors import BundleError

LARGEST_BYTES = 256 << 20  # a graph of the 15B has half a megabyte; more must be weights, which belong beside it
_REMEDY = "copy or export the bundle again; `phiedge verify` says whether its bytes are as they were written"

# TensorProto.DataType: how it is called, and its bits.
_TYPES = {
    1: ("float32", 32),
    2: ("uint8", 8),
    3: ("int8", 8),
    4: ("uint16", 16),
    5: ("int16", 16),
    6: ("int32", 32),
    7: ("int64", 64),
    9: ("bool", 8),
    10: ("float16", 16),
    11: ("float64", 64),
    12: ("uint32", 32),
    13: ("uint64", 64),
    16: ("bfloat16", 16),
    17: ("float8e4m3fn", 8),
    19: ("float8e5m2", 8),
    21: ("uint4", 4),
    22: ("int4", 4),
    23: ("float4e2m1", 4),
}
BITS = dict(_TYPES.values())
_EXTERNAL = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphValue:
    """An input or output; a side of its shape is a number, or the name of one that is known when it runs."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A tensor that comes with the graph; `file` is the one beside the graph that holds its bytes, None for the graph.

    `offset` and `size_bytes` are bytes of that file; a weight in the graph itself has offset 0, and its bytes in `held`
    where it is one number.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str | None
    offset: int
    held: bytes = b""

    @property
    def size_bytes(self) -> int:
        return -(-prod(self.shape) * BITS[self.dtype] // 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNode:
    """An operator with the names of what it reads and writes ("" where an optional one is left out).

    `integers` and `floats` are its attributes of one number; others are not read.
    """

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    integers: Mapping[str, int]
    floats: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFile:
    """One graph, as its file has it; `opsets` maps an operator domain ("" is ONNX's own) to its version."""

    ir_version: int
    opsets: Mapping[str, int]
    nodes: tuple[GraphNode, ...]
    weights: tuple[Weight, ...]
    inputs: tuple[GraphValue, ...]
    outputs: tuple[GraphValue, ...]


def read_graph(path: Path) -> GraphFile:
    """Read the graph file at `path`. Raises `BundleError` for one that is damaged or is not a graph."""
    size_bytes = path.stat().st_size
    if size_bytes > LARGEST_BYTES:
        raise BundleError(
            f"{path} has {size_bytes} bytes, a graph without its weights has less than {LARGEST_BYTES}", remedy=_REMEDY
        )
    try:
        return _model(memoryview(path.read_bytes()))
    except BundleError as error:
        raise BundleError(f"{path} is not a graph: {error.message}", remedy=error.remedy or _REMEDY) from error


def _model(message: memoryview) -> GraphFile:
    ir_version, opsets, graph = 0, {}, None
    for field in fields(message):
        if field[0] == 1:
            ir_version = number(field)
        elif field[0] == 7:
            graph = data(field)
        elif field[0] == 8:
            domain, version = _opset(data(field))
            opsets[domain] = version
        elif field[0] == 25:
            raise BundleError("it has functions, which phiedge does not write")
    if ir_version == 0 or not opsets or graph is None:
        raise BundleError("it has no version of the format, no version of the operators or no graph")
    return _graph(graph, ir_version, opsets)


def _graph(message: memoryview, ir_version: int, opsets: Mapping[str, int]) -> GraphFile:
    nodes, weights = [], []
    values: dict[int, list[GraphValue]] = {11: [], 12: []}
    for field in fields(message):
        if field[0] == 1:
            nodes.append(_node(data(field)))
        elif field[0] == 5:
            weights.append(_weight(data(field)))
        elif field[0] in values:
            values[field[0]].append(_value(data(field)))
        elif field[0] == 15:
            raise BundleError("it has sparse weights, which phiedge does not write")
    if not nodes or not values[12]:
        raise BundleError(f"it has {len(nodes)} nodes and {len(values[12])} outputs")
    unknown = {node.domain for node in nodes} - opsets.keys()
    if unknown:
        raise BundleError(f"it has no version of the operators of {', '.join(map(repr, sorted(unknown)))}")
    return GraphFile(
        ir_version=ir_version,
        opsets=opsets,
        nodes=tuple(nodes),
        weights=tuple(weights),
        inputs=tuple(values[11]),
        outputs=tuple(values[12]),
    )


def _opset(message: memoryview) -> tuple[str, int]:
    found = _last(message)
    return _word(found, 1), number(found[2]) if 2 in found else 0


def _node(message: memoryview) -> GraphNode:
    names: dict[int, list[str]] = {1: [], 2: []}
    words = {3: "", 4: "", 7: ""}
    integers: dict[str, int] = {}
    floats: dict[str, float] = {}
    for field in fields(message):
        if field[0] in names:
            names[field[0]].append(text(field))
        elif field[0] in words:
            words[field[0]] = text(field)
        elif field[0] == 5:
            name, value = _attribute(data(field))
            if isinstance(value, int):
                integers[name] = value
            elif value is not None:
                floats[name] = value
    if not words[4]:
        raise BundleError(f"the node {words[3]!r} has no operator")
    return GraphNode(
        name=words[3],
        op_type=words[4],
        domain=words[7],
        inputs=tuple(names[1]),
        outputs=tuple(names[2]),
        integers=integers,
        floats=floats,
    )


def _attribute(message: memoryview) -> tuple[str, int | float | None]:
    """The attribute's name, and its value if that is one number."""
    found = _last(message)
    if found.keys() & {6, 11}:
        raise BundleError("it has graphs inside its graph, which phiedge does not write")
    name = _word(found, 1)
    if 3 in found:
        return name, signed(found[3])
    if 2 in found:
        return name, float(struct.unpack("<f", data(found[2]))[0])
    return name, None


def _weight(message: memoryview) -> Weight:
    shape: list[int] = []
    external: dict[str, str] = {}
    for field in fields(message):
        if field[0] == 1:
            shape += numbers(field)
        elif field[0] == 13:
            entry = _last(data(field))
            external[_word(entry, 1)] = _word(entry, 2)
    found = _last(message)
    name = _word(found, 8)
    outside = 14 in found and number(found[14]) == _EXTERNAL
    weight = Weight(
        name=name,
        dtype=_dtype(found, 2, name),
        shape=tuple(shape),
        file=check_relative(external.get("location", ""), f"the weight {name!r}") if outside else None,
        offset=_decimal(external.get("offset", "0"), name) if outside else 0,
        held=_held(found, shape) if not outside else b"",
    )
    length = _decimal(external["length"], name) if outside and "length" in external else weight.size_bytes
    if length != weight.size_bytes:
        raise BundleError(f"the weight {name!r} lies in {length} bytes, its shape takes {weight.size_bytes}")
    return weight


def _held(found: Mapping[int, Field], shape: list[int]) -> bytes:
    """The bytes of a weight of one number that the graph holds, however many axes it has."""
    return bytes(data(found[9])) if prod(shape) == 1 and 9 in found else b""


def _value(message: memoryview) -> GraphValue:
    name = _word(_last(message), 1)
    tensor = _within(_within(message, 2, name), 1, name)
    sides = [_side(data(field)) for field in fields(_within(tensor, 2, name)) if field[0] == 1]
    return GraphValue(name=name, dtype=_dtype(_last(tensor), 1, name), shape=tuple(sides))


def _within(message: memoryview, key: int, name: str) -> memoryview:
    """The message in the field `key` of the message that describes the value `name`."""
    found = _last(message)
    if key not in found:
        raise BundleError(f"{name!r} is not a tensor with a shape")
    return data(found[key])


def _side(message: memoryview) -> int | str:
    found = _last(message)
    return number(found[1]) if 1 in found else _word(found, 2) or "?"


def _dtype(found: Mapping[int, Field], key: int, name: str) -> str:
    kind = number(found[key]) if key in found else 0
    if kind not in _TYPES:
        raise BundleError(f"{name!r} is of the unknown type {kind}")
    return _TYPES[kind][0]


def _decimal(word: str, name: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 18):
        raise BundleError(f"the weight {name!r} lies at {word[:40]!r}")
    return int(word)


def _word(found: Mapping[int, Field], key: int) -> str:
    return text(found[key]) if key in found else ""


def _last(message: memoryview) -> dict[int, Field]:
    """A message's fields by number; of one that comes again the last holds, as the format has it."""
    return {field[0]: field for field in fields(message)}
