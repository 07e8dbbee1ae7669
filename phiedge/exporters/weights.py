"""The streaming weight writer: fills a graph's initializers from checkpoint rows, a block at a time.

A `Fill` says which initializers (`Slot`) one source fills and how. The writer lays all slots out in one external data
file, then goes through the fills in order; it holds one block of rows in memory, never a tensor, so its peak does not
depend on the size of the model.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from phiedge.errors import ExportError
from phiedge.exporters.quantised import Float32, QuantisedTensor, QuantisedWeight, Quantiser
from phiedge.progress import Progress, silent

BLOCK_BYTES = 16 << 20  # of float32 rows in memory at a time
ALIGN_BYTES = 64  # one cache line
PAGE_BYTES = 4096  # what a mapped file can be shared and dropped by; for tensors of at least ALIGN_THRESHOLD_BYTES
ALIGN_THRESHOLD_BYTES = 1 << 20

Array: TypeAlias = NDArray[Any]


class WeightSource(Protocol):
    """The part of a checkpoint that the writer reads."""

    def shape(self, name: str) -> tuple[int, ...]: ...

    def float32(self, name: str, rows: slice | None = None) -> Float32: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One initializer to be filled."""

    name: str
    dtype: ir.DataType
    shape: tuple[int, ...]

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

    The slots must be row-major over N, so that consecutive blocks of rows are consecutive in the file.
    """

    source: str
    shape: tuple[int, int]
    bits: int
    group_size: int
    accuracy_level: int
    slots: tuple[Slot, ...]
    pack: Callable[[QuantisedWeight], tuple[Array, ...]]


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


Fill: TypeAlias = FloatFill | GroupedFill | ComputedFill


def write_weights(
    fills: Sequence[Fill],
    source: WeightSource,
    quantiser: Quantiser,
    path: Path,
    *,
    progress: Progress = silent,
) -> tuple[dict[str, ir.ExternalTensor], tuple[QuantisedTensor, ...]]:
    """Write the data file `path` and return the tensor that refers to it for every slot, and the report's rows.

    Raises `ExportError` where a value does not fit the type it is stored as.
    """
    offsets, total_bytes = _lay_out(fills)
    report: list[QuantisedTensor] = []
    with path.open("wb") as file, progress.task(f"write {path.name.partition('.')[0]}", total_bytes, "B") as advance:
        file.truncate(total_bytes)
        for fill in fills:
            cursors = [offsets[slot.name] for slot in fill.slots]
            for parts in _blocks(fill, source, quantiser, report):
                for index, part in enumerate(parts):
                    cursors[index] += _write_at(file, cursors[index], part)
                    advance(part.nbytes)
            for slot, cursor in zip(fill.slots, cursors, strict=True):
                assert cursor == offsets[slot.name] + slot.size_bytes, f"{slot.name} is not full"
    tensors = {
        slot.name: ir.ExternalTensor(
            path.name,
            offsets[slot.name],
            slot.size_bytes,
            slot.dtype,
            shape=ir.Shape(slot.shape),
            name=slot.name,
            base_dir=path.parent,
        )
        for fill in fills
        for slot in fill.slots
    }
    return tensors, tuple(report)


def data_bytes(fills: Sequence[Fill]) -> int:
    """The size of the data file that `write_weights` writes for `fills`."""
    return _lay_out(fills)[1]


def _lay_out(fills: Sequence[Fill]) -> tuple[dict[str, int], int]:
    offsets: dict[str, int] = {}
    end = 0
    for slot in (slot for fill in fills for slot in fill.slots):
        align = PAGE_BYTES if slot.size_bytes >= ALIGN_THRESHOLD_BYTES else ALIGN_BYTES
        assert slot.name not in offsets, f"{slot.name} has two fills"
        offsets[slot.name] = -(-end // align) * align
        end = offsets[slot.name] + slot.size_bytes
    return offsets, end


def _write_at(file: IO[bytes], offset: int, part: Array) -> int:
    file.seek(offset)
    return file.write(np.ascontiguousarray(part).data)


def _blocks(
    fill: Fill, source: WeightSource, quantiser: Quantiser, report: list[QuantisedTensor]
) -> Iterator[tuple[Array, ...]]:
    if isinstance(fill, ComputedFill):
        yield (fill.values().astype(fill.slot.dtype.numpy()),)
    elif isinstance(fill, FloatFill):
        for rows, weight in float_rows(source, fill.source):
            yield (_cast(weight, fill, rows),)
    else:
        error = _Error()
        for rows, weight in float_rows(source, fill.source):
            quantised = quantiser.quantise(fill.source, rows, weight, bits=fill.bits, group_size=fill.group_size)
            error.add(weight, quantised.dequantise())
            yield fill.pack(quantised)
        report.append(error.row(fill, quantiser.method))


def float_rows(source: WeightSource, name: str) -> Iterator[tuple[slice, Float32]]:
    """The tensor `name` as float32, in blocks of whole rows of about `BLOCK_BYTES`."""
    rows, *rest = source.shape(name)
    step = max(1, BLOCK_BYTES // (4 * math.prod(rest)))
    for start in range(0, rows, step):
        block = slice(start, min(start + step, rows))
        yield block, source.float32(name, block)


def _cast(weight: Float32, fill: FloatFill, rows: slice) -> Array:
    if fill.slot.dtype == ir.DataType.FLOAT:
        return weight
    with np.errstate(over="ignore"):
        cast = weight.astype(fill.slot.dtype.numpy())
    if not np.isfinite(cast).all():
        largest = float(np.abs(weight).max())
        raise ExportError(
            f"{fill.source}, rows {rows.start}:{rows.stop}: {largest:g} does not fit {fill.slot.dtype.name}",
            remedy="export with --precision fp32",
        )
    return cast


@dataclass(slots=True)
class _Error:
    """The running error of one tensor, in float64."""

    squared_error: float = 0.0
    squared_weight: float = 0.0
    largest: float = 0.0

    def add(self, weight: Float32, quantised: Float32) -> None:
        difference = np.abs(quantised - weight)
        self.squared_error += float(np.sum(np.square(difference, dtype=np.float64)))
        self.squared_weight += float(np.sum(np.square(weight, dtype=np.float64)))
        self.largest = max(self.largest, float(difference.max()))

    def row(self, fill: GroupedFill, method: str) -> QuantisedTensor:
        norm = self.squared_weight**0.5
        return QuantisedTensor(
            name=fill.source,
            method=method,
            bits=fill.bits,
            group_size=fill.group_size,
            accuracy_level=fill.accuracy_level,
            shape=fill.shape,
            relative_l2=self.squared_error**0.5 / norm if norm else 0.0,
            max_abs_error=self.largest,
            stored_bytes=sum(slot.size_bytes for slot in fill.slots),
        )
