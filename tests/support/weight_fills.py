"""Fills and data files by hand, for tests of the weight stream that trace no graph."""

import onnx_ir as ir

from phiedge.exporters.dialects.ort.packing import pack_matmul_nbits
from phiedge.exporters.source import ModelSource
from phiedge.exporters.weights import ComputedFill, DataFile, Fill, FloatFill, GroupedFill, Slot


def float_fill(name: str, shape: tuple[int, ...], dtype: ir.DataType = ir.DataType.FLOAT) -> FloatFill:
    return FloatFill(source=name, slot=Slot(name=f"{name}.slot", dtype=dtype, shape=shape))


def grouped_fill(name: str, shape: tuple[int, int], *, bits: int = 4, group_size: int = 32) -> GroupedFill:
    rows, groups = shape[0], shape[1] // group_size
    return GroupedFill(
        source=name,
        shape=shape,
        bits=bits,
        group_size=group_size,
        accuracy_level=4,
        slots=(
            Slot(name=f"{name}.codes", dtype=ir.DataType.UINT8, shape=(rows, groups, group_size * bits // 8)),
            Slot(name=f"{name}.scales", dtype=ir.DataType.FLOAT, shape=(rows, groups)),
        ),
        pack=pack_matmul_nbits,
    )


def computed_fill(name: str, values: list[float]) -> ComputedFill:
    import numpy as np

    slot = Slot(name=name, dtype=ir.DataType.FLOAT, shape=(len(values),))
    return ComputedFill(slot=slot, values=lambda: np.array(values))


def all_files(source: ModelSource) -> list[DataFile]:
    """Every used tensor of a checkpoint in two files: matrices as int4 where they have groups, all else as floats."""
    fills: list[Fill] = [computed_fill("computed", [1.5, 2.5])]
    names = [name for name, spec in source.config.tensors().items() if spec.used]
    for name in names:
        shape = source.shape(name)
        if len(shape) == 2 and shape[1] % 32 == 0:
            fills.append(grouped_fill(name, (shape[0], shape[1])))
        else:
            fills.append(float_fill(name, shape))
    ranks = {name: rank for rank, name in enumerate(source.names())}
    half = len(fills) // 2
    return [DataFile.lay_out("one.data", fills[:half], ranks), DataFile.lay_out("two.data", fills[half:], ranks)]
