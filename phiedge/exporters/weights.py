"""What fills a graph's initializers, and where the results lie in a data file.

A `Fill` says which initializers (`Slot`) one source fills and how: `convert` turns a block of rows of the source into
its part of every slot. A `DataFile` lays the slots out in the order in which the source holds the tensors, so that one
pass over the source appends to the file and to nothing else (docs/decisions/0404-how-are-weights-streamed.md).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from phiedge.errors import ExportError
from phiedge.exporters.quantised import QuantisedWeight, Quantiser, RowErrors
from phiedge.exporters.safetensors_file import Dtype
from phiedge.exporters.values import StoredRows

ALIGN_BYTES = 64  # one cache line
PAGE_BYTES = 4096  # what a mapped file can be shared and dropped by; for tensors of at least ALIGN_THRESHOLD_BYTES
ALIGN_THRESHOLD_BYTES = 1 << 20
STORED_AS: Mapping[Dtype, ir.DataType] = {
    "float32": ir.DataType.FLOAT,
    "float16": ir.DataType.FLOAT16,
    "bfloat16": ir.DataType.BFLOAT16,
}

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One initializer to be filled."""

    name: str
    dtype: ir.DataType
    shape: tuple[int, ...]
    content: str = ""  # another's key, where the same bytes are read under another type or name

    @property
    def key(self) -> str:
        """What names the bytes: graphs whose slots have one key share them."""
        return self.content or f"{self.name} {self.dtype.name}"

    @property
    def size_bytes(self) -> int:
        """Bytes in the data file."""
        return math.prod(self.shape) * self.dtype.bitwidth // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatFill:
    """A checkpoint tensor, cast to the slot's float type."""

    source: str
    slot: Slot

    @property
    def slots(self) -> tuple[Slot, ...]:
        return (self.slot,)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedFill:
    """A linear's weight [N, K], quantised; `pack` turns a block of rows into its part of every slot.

    The slots must be row-major over N, so that consecutive blocks of rows are consecutive in the file. The first is
    written as it comes, the others wait for the end of the tensor and should be small.
    """

    source: str
    shape: tuple[int, int]
    bits: int
    group_size: int
    accuracy_level: int
    slots: tuple[Slot, ...]
    pack: Callable[[QuantisedWeight], tuple[Array, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Float8Fill:
    """A linear's weight [N, K] in 8-bit floats: slots of codes and of scales, one for each row (`float8.py`)."""

    source: str
    shape: tuple[int, int]
    slots: tuple[Slot, Slot]

    @property
    def bits(self) -> int:
        return 8

    @property
    def group_size(self) -> int:
        """Weights under one scale: a row."""
        return self.shape[1]

    @property
    def accuracy_level(self) -> int:
        """In the terms of MatMulNBits: nothing rounds activations but what the graph says."""
        return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputedFill:
    """Values that no checkpoint holds; `values` computes them when their turn comes."""

    slot: Slot
    values: Callable[[], Array]

    @property
    def source(self) -> None:
        return None

    @property
    def slots(self) -> tuple[Slot, ...]:
        return (self.slot,)


SourceFill: TypeAlias = FloatFill | GroupedFill | Float8Fill
Fill: TypeAlias = SourceFill | ComputedFill


def convert(fill: SourceFill, rows: StoredRows, quantiser: Quantiser) -> tuple[tuple[Array, ...], RowErrors | None]:
    """The part of every slot that these rows make, and what quantisation cost where there was any.

    Raises `TensorError` for values that are not finite, `ExportError` where one does not fit the type it is stored as.
    """
    if isinstance(fill, FloatFill):
        return (_cast(rows, fill.slot.dtype),), None
    if isinstance(fill, Float8Fill):
        weight, errors = quantiser.quantise_float8(rows)
        return (weight.codes, weight.scales.astype(fill.slots[1].dtype.numpy())), errors
    quantised, errors = quantiser.quantise(rows, bits=fill.bits, group_size=fill.group_size)
    return fill.pack(quantised), errors


def _cast(rows: StoredRows, dtype: ir.DataType) -> Array:
    if dtype == STORED_AS[rows.dtype]:
        rows.check_finite()
        return rows.values
    weight = rows.float32()
    if dtype == ir.DataType.FLOAT:
        return weight
    with np.errstate(over="ignore"):
        cast = weight.astype(dtype.numpy())
    if not np.isfinite(cast).all():
        largest = float(np.abs(weight).max())
        raise ExportError(
            f"{rows.told}: {largest:g} does not fit {dtype.name}",
            remedy="export with --precision fp32",
        )
    return cast


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A file of slots: `fills` in the order in which they are written, and where each slot begins, by its key.

    Computed values come first, then the tensors in the order of the source. Fills of several graphs may be laid out
    together; what they have in common is written once.
    """

    name: str
    fills: tuple[Fill, ...]
    offsets: Mapping[str, int]
    size_bytes: int

    @staticmethod
    def lay_out(name: str, fills: Sequence[Fill], ranks: Mapping[str, int]) -> "DataFile":
        """Lay out `fills`; `ranks` is the place of every tensor in the source."""
        ordered = sorted(_once(fills), key=lambda fill: -1 if fill.source is None else ranks[fill.source])
        offsets: dict[str, int] = {}
        end = 0
        for slot in (slot for fill in ordered for slot in fill.slots):
            align = PAGE_BYTES if slot.size_bytes >= ALIGN_THRESHOLD_BYTES else ALIGN_BYTES
            assert slot.key not in offsets, f"{slot.key} has two fills"
            offsets[slot.key] = -(-end // align) * align
            end = offsets[slot.key] + slot.size_bytes
        return DataFile(name=name, fills=tuple(ordered), offsets=offsets, size_bytes=end)


def _once(fills: Sequence[Fill]) -> list[Fill]:
    """The fills without those that write what another does. A tensor of the source is stored in one form only."""
    kept: dict[str, Fill] = {}
    for fill in fills:
        keys = [slot.key for slot in fill.slots]
        first = kept.setdefault(fill.source or keys[0], fill)
        assert keys == [slot.key for slot in first.slots], f"{fill.source} is wanted as {first.slots} and {fill.slots}"
    return list(kept.values())
