import tracemalloc
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from phiedge.calibration.int4 import RoundToNearest, quantise_rtn
from phiedge.errors import ExportError
from phiedge.exporters import weights
from phiedge.exporters.dialects.ort.packing import pack_matmul_nbits
from phiedge.exporters.weights import ComputedFill, FloatFill, GroupedFill, Slot, write_weights


class Tensors:
    """A weight source in memory, which counts what it is asked for."""

    def __init__(self, **tensors: np.ndarray) -> None:
        self.tensors = tensors
        self.largest_read_bytes = 0

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def float32(self, name: str, rows: slice | None = None) -> np.ndarray:
        block = self.tensors[name] if rows is None else self.tensors[name][rows]
        self.largest_read_bytes = max(self.largest_read_bytes, block.nbytes)
        return block.astype(np.float32)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


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
            Slot(name="codes", dtype=ir.DataType.UINT8, shape=(rows, groups, group_size * bits // 8)),
            Slot(name="scales", dtype=ir.DataType.FLOAT, shape=(rows, groups)),
        ),
        pack=pack_matmul_nbits,
    )


def write(fills, source, path: Path):
    return write_weights(fills, source, RoundToNearest(), path)


def test_every_slot_is_filled_with_its_tensor(tmp_path) -> None:
    source = Tensors(a=normal(5, 7), b=normal(3))
    fills = [
        float_fill("a", (5, 7)),
        ComputedFill(slot=Slot(name="c", dtype=ir.DataType.FLOAT, shape=(2,)), values=lambda: np.array([1.5, 2.5])),
        float_fill("b", (3,), ir.DataType.FLOAT16),
    ]
    tensors, report = write(fills, source, tmp_path / "w.data")
    np.testing.assert_array_equal(tensors["a.slot"].numpy(), source.tensors["a"])
    np.testing.assert_array_equal(tensors["b.slot"].numpy(), source.tensors["b"].astype(np.float16))
    np.testing.assert_array_equal(tensors["c"].numpy(), [1.5, 2.5])
    assert report == ()


def test_large_tensors_begin_on_a_page_and_small_ones_on_a_cache_line(tmp_path) -> None:
    source = Tensors(small=normal(3), large=normal(512, 512), tail=normal(1))
    fills = [float_fill("small", (3,)), float_fill("large", (512, 512)), float_fill("tail", (1,))]
    tensors, _ = write(fills, source, tmp_path / "w.data")
    assert [tensors[f"{name}.slot"].offset for name in ("small", "large", "tail")] == [0, 4096, 4096 + (1 << 20)]
    source = Tensors(one=normal(3), two=normal(3))
    tensors, _ = write([float_fill("one", (3,)), float_fill("two", (3,))], source, tmp_path / "v.data")
    assert tensors["two.slot"].offset == 64


@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_of_rows_give_the_bytes_of_the_whole(tmp_path, monkeypatch, bits) -> None:
    source = Tensors(w=normal(50, 64))
    whole, whole_report = write([grouped_fill("w", (50, 64), bits=bits)], source, tmp_path / "whole")
    monkeypatch.setattr(weights, "BLOCK_BYTES", 7 * 64 * 4)
    source.largest_read_bytes = 0
    blocks, blocks_report = write([grouped_fill("w", (50, 64), bits=bits)], source, tmp_path / "blocks")
    assert (tmp_path / "blocks").read_bytes() == (tmp_path / "whole").read_bytes()
    assert source.largest_read_bytes == 7 * 64 * 4
    assert blocks_report[0].max_abs_error == whole_report[0].max_abs_error
    assert blocks_report[0].relative_l2 == pytest.approx(whole_report[0].relative_l2, rel=1e-9)
    assert set(whole) == set(blocks) == {"codes", "scales"}


def test_the_report_has_the_error_of_what_was_stored(tmp_path) -> None:
    weight = normal(16, 64)
    _, (row,) = write([grouped_fill("w", (16, 64))], Tensors(w=weight), tmp_path / "w.data")
    difference = quantise_rtn(weight, 32).dequantise() - weight
    assert row.name == "w"
    assert row.method == "rtn"
    assert row.relative_l2 == pytest.approx(np.linalg.norm(difference) / np.linalg.norm(weight))
    assert row.max_abs_error == np.abs(difference).max()
    assert row.stored_bytes == 16 * 64 // 2 + 16 * 2 * 4


def test_a_value_beyond_float16_is_refused_and_named(tmp_path) -> None:
    weight = normal(4, 4)
    weight[2, 1] = -7e4
    with pytest.raises(ExportError, match=r"w, rows 0:4: 70000 does not fit FLOAT16") as caught:
        write([float_fill("w", (4, 4), ir.DataType.FLOAT16)], Tensors(w=weight), tmp_path / "w.data")
    assert caught.value.remedy == "export with --precision fp32"


def test_memory_does_not_grow_with_the_tensors(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(weights, "BLOCK_BYTES", 1 << 18)
    source = Tensors(w=np.zeros((8192, 512), np.float16))  # 16 MiB as float32

    def peak_bytes(fill) -> int:
        tracemalloc.start()
        try:
            write([fill], source, tmp_path / "w.data")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak_bytes(float_fill("w", (8192, 512))) < 2 << 20
    assert peak_bytes(grouped_fill("w", (8192, 512))) < 4 << 20


def test_progress_is_told_of_every_byte(tmp_path) -> None:
    advanced = []

    class Recorder:
        def task(self, name: str, total: int, unit: str):
            advanced.append((name, total, unit))
            return self

        def __enter__(self):
            return lambda count: advanced.append(count)

        def __exit__(self, *error: object) -> None:
            return None

    fill = grouped_fill("w", (16, 64))
    write_weights([fill], Tensors(w=normal(16, 64)), RoundToNearest(), tmp_path / "w.data", progress=Recorder())
    (name, total, unit), *counts = advanced
    assert (name, unit) == ("write w", "B")
    assert sum(counts) == total == sum(slot.size_bytes for slot in fill.slots)
