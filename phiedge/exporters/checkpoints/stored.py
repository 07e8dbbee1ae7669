"""The weights of a bundle, read back by the checkpoint's names: codes and scales as they are stored, some rows at once.

A graph file says where each weight lies (`phiedge.bundle.graph_file`), so this needs neither ONNX nor torch. What comes
out is what calibration put in: nothing here rounds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiedge.bundle import Bundle
from phiedge.bundle.graph_file import Weight, read_graph
from phiedge.errors import BundleError, FormatError
from phiedge.exporters.quantised import QuantisedWeight

HIGHEST_BITS = np.uint8(0x88)  # turning them over makes codes with a sign codes with an offset, and back
BLOCK_BYTES = 64 << 20
NUMPY_TYPES: dict[str, Any] = {
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": "<u2",
    "uint8": "u1",
    "int8": "u1",
    "int4": "u1",
    "float8e4m3fn": "u1",
}
_BITS = {"int4": 4, "int8": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedLinear:
    """A linear's weight [rows, k] as integers of `bits` in runs of `group_size` along k, each under a float16 scale."""

    name: str
    rows: int
    k: int
    bits: int
    group_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Float8Linear:
    """A linear's weight [rows, k] in 8-bit floats (E4M3) under one scale for each row, and the scale of its input."""

    name: str
    rows: int
    k: int
    input_scale: float


class StoredWeights:
    """The weights of one graph of a bundle, by the names of the exporter's modules (`model.layers.0...weight`)."""

    def __init__(self, bundle: Bundle, graph: str) -> None:
        """Read the graph's description. Raises `BundleError` for a graph that is none."""
        self._path = bundle.path
        self._graph = graph
        self._signed = bundle.manifest.precision.codes == "signed"
        self._file = read_graph(bundle.file(graph))
        self._weights = {weight.name: weight for weight in self._file.weights}

    def __contains__(self, name: str) -> bool:
        return name in self._weights

    def names(self) -> tuple[str, ...]:
        """Every weight of the graph, under the name that the graph has it."""
        return tuple(self._weights)

    def attributes(self, name: str) -> set[float]:
        """Every value that the attribute `name`, a float, has among the graph's nodes."""
        return {node.floats[name] for node in self._file.nodes if name in node.floats}

    def grouped(self, name: str) -> GroupedLinear | None:
        """The linear `name` where it is stored as small integers, otherwise None."""
        for kind, bits in _BITS.items():
            if (codes := self._weights.get(f"{name}.{kind}")) is not None:
                scales = self._of(f"{name}.scales")
                rows, groups = scales.shape
                k = codes.size_bytes * 8 // bits // rows
                return GroupedLinear(name=name, rows=rows, k=k, bits=bits, group_size=k // groups)
        return None

    def float8(self, name: str) -> Float8Linear | None:
        """The linear `name` where it is stored in 8-bit floats, otherwise None."""
        codes = self._weights.get(f"{name}.float8")
        if codes is None:
            return None
        scale = self._of(f"constant.{name}.input_scale")
        (value,) = np.frombuffer(scale.held, NUMPY_TYPES[scale.dtype])
        return Float8Linear(name=name, rows=codes.shape[0], k=codes.shape[1], input_scale=float(value))

    def read_float8(self, linear: Float8Linear, rows: slice) -> NDArray[np.uint8]:
        """The codes of some rows, as their bytes."""
        codes: NDArray[np.uint8] = self._read(self._of(f"{linear.name}.float8"), rows)
        return codes

    def read_float8_scales(self, linear: Float8Linear, rows: slice) -> NDArray[np.float32]:
        """The scales of some rows [rows]. Raises `FormatError`."""
        scales: NDArray[np.float32] = self._read(self._of(f"{linear.name}.scales"), rows).astype(np.float32).reshape(-1)
        _check_scales(linear.name, scales)
        return scales

    def one_scale(self, linear: Float8Linear) -> float | None:
        """The scale of every row where all rows have the same, otherwise None. Raises `FormatError`."""
        scales = self.read_float8_scales(linear, slice(0, linear.rows))
        return float(scales[0]) if (scales == scales[0]).all() else None

    def read_grouped(self, linear: GroupedLinear, rows: slice) -> QuantisedWeight:
        """Some rows of a linear, as its quantiser gave them."""
        packed = self._read(self._of(f"{linear.name}.int{linear.bits}"), rows).reshape(rows.stop - rows.start, -1)
        if linear.bits == 4 and self._signed:
            packed = packed ^ HIGHEST_BITS
        scales = self.read_scales(linear, rows)
        return QuantisedWeight(packed=packed, scales=scales, bits=linear.bits, group_size=linear.group_size)

    def read_scales(self, linear: GroupedLinear, rows: slice) -> NDArray[np.float32]:
        """The scales of some rows [rows, groups], each of which float16 has. Raises `FormatError`."""
        scales: NDArray[np.float32] = self._read(self._of(f"{linear.name}.scales"), rows).astype(np.float32)
        _check_scales(linear.name, scales)
        return scales

    def plain(self, name: str) -> tuple[str, tuple[int, ...]]:
        """The stored type and shape of a tensor that is no group of integers: a norm, a bias, a float weight."""
        weight = self._plain(name)
        return weight.dtype, weight.shape

    def read_plain(self, name: str, rows: slice | None = None) -> NDArray[Any]:
        """Such a tensor or some of its rows, as it is stored."""
        weight = self._plain(name)
        return self._read(weight, rows or slice(0, weight.shape[0] if weight.shape else 1))

    def _plain(self, name: str) -> Weight:
        return self._of(name if name in self._weights else f"{name}.float16")

    def _of(self, name: str) -> Weight:
        if name not in self._weights:
            raise BundleError(
                f"{self._graph} of {self._path} has no weight {name}", remedy="export the bundle with this phiedge"
            )
        return self._weights[name]

    def _read(self, weight: Weight, rows: slice) -> NDArray[Any]:
        if weight.file is None:
            raise BundleError(f"{self._graph}: {weight.name} lies in the graph", remedy="export the bundle again")
        kind = np.dtype(NUMPY_TYPES[weight.dtype])
        whole_rows = weight.shape[0] if weight.shape else 1
        row_bytes = weight.size_bytes // whole_rows
        count = (rows.stop - rows.start) * row_bytes // kind.itemsize
        offset = weight.offset + rows.start * row_bytes
        values: NDArray[Any] = np.fromfile(self._path / weight.file, kind, count, offset=offset)
        if values.size != count:
            raise BundleError(
                f"{self._path / weight.file} is cut short: {weight.name} needs {count} values, it has {values.size}",
                remedy="copy or export the bundle again",
            )
        width = count // (rows.stop - rows.start)
        fits = prod(weight.shape[1:]) == width
        return values.reshape((rows.stop - rows.start, *(weight.shape[1:] if fits else (width,))))


def row_blocks(rows: int, row_bytes: int) -> Iterator[slice]:
    """Runs of rows of at most about `BLOCK_BYTES`."""
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _check_scales(name: str, scales: NDArray[np.float32]) -> None:
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise FormatError(
            f"{name} has a scale that is no positive number", remedy="verify the bundle, or export it again"
        )
    if not np.array_equal(scales, scales.astype(np.float16).astype(np.float32)):
        raise FormatError(
            f"{name} has a scale that float16 does not have, its readers would round it",
            remedy="export the bundle with this phiedge, whose scales are all float16 numbers",
        )
