import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_checkpoints import Dtype, stored_bits, write_safetensors
from phiedge.errors import CheckpointError, ConfigError, TensorError
from phiedge.exporters.safetensors_file import SafetensorsFile

Header = dict[str, dict[str, object]]


@pytest.fixture
def values() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {
        "odd": random.standard_normal(3, dtype=np.float32),
        "matrix": random.standard_normal((5, 4), dtype=np.float32),
        "cube": random.standard_normal((1, 1, 7), dtype=np.float32),
    }


@pytest.fixture
def file(tmp_path: Path, values: dict[str, np.ndarray]) -> Path:
    path = tmp_path / "weights.safetensors"
    write_safetensors(path, values, "float32")
    return path


def rewritten(file: Path, change: Callable[[Header], object]) -> Path:
    """The file with its header changed and its data as it was."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    encoded = json.dumps(header).encode()
    file.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data[8 + length :])
    return file


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_stored_type_is_read_bit_by_bit(tmp_path: Path, values: dict[str, np.ndarray], dtype: Dtype) -> None:
    path = tmp_path / "weights.safetensors"
    write_safetensors(path, values, dtype)
    with closing(SafetensorsFile(path)) as found:
        assert {name: tensor.shape for name, tensor in found.tensors.items()} == {n: v.shape for n, v in values.items()}
        for name, value in values.items():
            assert found.tensors[name].dtype == dtype
            np.testing.assert_array_equal(found.read(name), stored_bits(value, dtype))


def test_a_file_of_the_formats_own_library_is_read_the_same(tmp_path: Path, values: dict[str, np.ndarray]) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(values, str(path), metadata={"format": "pt"})
    with closing(SafetensorsFile(path)) as found:
        assert set(found.tensors) == set(values)
        for name, value in values.items():
            np.testing.assert_array_equal(found.read(name), value)


def test_rows_are_the_rows_of_the_whole(file: Path, values: dict[str, np.ndarray]) -> None:
    with closing(SafetensorsFile(file)) as found:
        for rows in (slice(1, 3), slice(0, 5), slice(4, 9), slice(-2, None), slice(2, 2), slice(3, 1)):
            np.testing.assert_array_equal(found.read("matrix", rows), values["matrix"][rows])


def test_an_array_is_read_only_and_outlives_the_file(file: Path, values: dict[str, np.ndarray]) -> None:
    with closing(SafetensorsFile(file)) as found:
        array = found.read("matrix")
    assert not array.flags.writeable
    np.testing.assert_array_equal(array, values["matrix"])


def test_a_tensor_that_starts_anywhere_in_a_page_is_read(tmp_path: Path) -> None:
    values = {str(size): np.arange(size, dtype=np.float32) for size in (1, 1023, 1024, 1025, 3000, 1)}
    path = tmp_path / "weights.safetensors"
    write_safetensors(path, values, "float16")
    with closing(SafetensorsFile(path)) as found:
        for name, value in values.items():
            np.testing.assert_array_equal(found.read(name), value.astype(np.float16))


@pytest.mark.parametrize("kept", [0, 7, 8, 60, -1, -40])
def test_a_file_that_is_cut_short_is_refused(file: Path, kept: int) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:kept])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is cut short: it has \d+ bytes"):
        SafetensorsFile(file)


def test_bytes_after_the_last_tensor_are_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"xy")
    with pytest.raises(CheckpointError, match="2 more than its tensors take"):
        SafetensorsFile(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: h["matrix"].update(data_offsets=[8, 88]), "the tensors odd and matrix overlap"),
        (lambda h: h["cube"].update(data_offsets=h["odd"]["data_offsets"], shape=[3]), "overlap"),
        (lambda h: h["cube"].update(data_offsets=[96, 124]), "4 bytes before cube belong to no tensor"),
        (lambda h: h["odd"].update(dtype="I64"), "odd is stored as I64, phiedge reads F32, F16, BF16"),
        (lambda h: h["odd"].update(dtype="F8_E4M3"), "odd is stored as F8_E4M3"),
        (lambda h: h["odd"].update(dtype=4), "odd is stored as 4"),
        (lambda h: h["odd"].update(shape=[4]), r"odd of shape \[4\] needs 16 bytes, its offsets span 12"),
        (lambda h: h["odd"].update(shape=[-3]), r"odd has the shape \[-3\]"),
        (lambda h: h["odd"].update(shape=[True]), "odd has the shape"),
        (lambda h: h["odd"].update(shape="3"), "odd has the shape 3"),
        (lambda h: h["odd"].update(data_offsets=[12, 0]), r"the offsets \[12, 0\]"),
        (lambda h: h["odd"].update(data_offsets=[0]), r"the offsets \[0\]"),
        (lambda h: h["odd"].pop("data_offsets"), "the offsets None"),
        (lambda h: h.update(odd=[1]), "entry for odd is not an object"),
    ],
)
def test_a_header_that_does_not_lay_the_file_out_exactly_once_is_refused(
    file: Path, change: Callable[[Header], object], said: str
) -> None:
    with pytest.raises(TensorError, match=said) as caught:
        SafetensorsFile(rewritten(file, change))
    assert caught.value.tensor in ("odd", "matrix", "cube")


def test_offsets_beyond_the_file_are_a_file_cut_short(file: Path) -> None:
    with pytest.raises(CheckpointError, match="its tensors end at"):
        SafetensorsFile(rewritten(file, lambda h: h["cube"].update(shape=[1 << 40], data_offsets=[92, 92 + (4 << 40)])))


def test_a_name_that_stands_twice_is_refused(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data.replace(b'"cube"', b'"odd" ', 1))
    with pytest.raises(ConfigError, match="the key 'odd' stands twice"):
        SafetensorsFile(file)


@pytest.mark.parametrize(
    "begin",
    [
        b"PK\x03\x04\x00\x00\x08\x08",
        b"\x80\x02}q\x00(X\x05",
        b"\x80\x04\x95\x00\x10\x00\x00\x00",
        b"PK\x03\x04\x14\0\0\0",
    ],
)
def test_a_pickle_under_another_name_is_refused_as_one(tmp_path: Path, begin: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(begin + bytes(100))
    with pytest.raises(CheckpointError, match="is a pickle, whatever its name says") as caught:
        SafetensorsFile(path)
    assert caught.value.remedy is not None
    assert "convert" in caught.value.remedy


@pytest.mark.parametrize("header_bytes", [0x0280, 0x4B50])
def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path: Path, header_bytes: int) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode().ljust(header_bytes)
    path = tmp_path / "model.safetensors"
    path.write_bytes(header_bytes.to_bytes(8, "little") + header + bytes(4))
    with closing(SafetensorsFile(path)) as found:
        assert found.read("a").tolist() == [0.0]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match="is not safetensors: a header of"):
        SafetensorsFile(path)


@settings(max_examples=60, deadline=None)
@given(position=st.integers(min_value=0, max_value=10_000), byte=st.integers(min_value=0, max_value=255))
def test_a_changed_byte_of_the_header_gives_an_error_of_ours_or_a_readable_file(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "weights.safetensors"
    write_safetensors(path, {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float32)}, "float32")
    data = bytearray(path.read_bytes())
    header_end = 8 + int.from_bytes(data[:8], "little")
    data[position % header_end] = byte
    path.write_bytes(data)
    try:
        found = SafetensorsFile(path)
    except CheckpointError:
        return
    with closing(found):
        for name in found.tensors:
            found.read(name)
