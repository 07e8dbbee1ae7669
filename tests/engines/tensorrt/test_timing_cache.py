from collections.abc import Mapping
from pathlib import Path

import pytest

from phiedge.bundle import Bundle, FileEntry
from phiedge.engines.engine_record import EngineRecord
from phiedge.engines.engine_writer import EngineWriter
from phiedge.engines.tensorrt import timing_cache
from phiedge.engines.tensorrt.built import TIMING_CACHE
from phiedge.engines.tensorrt.ports import Ports
from tensorrt_builder import Recorded
from tensorrt_surfaces import JETPACK_6

ENGINE, TOOLS = "tensorrt-sm87", {"tensorrt": "10.3.0"}


def record(files: Mapping[str, FileEntry]) -> EngineRecord:
    return EngineRecord(
        backend="tensorrt",
        phiedge_version="0.1.0",
        tools=TOOLS,
        machine={},
        options={},
        source={},
        vision="vision.engine",
        decoder="vision.engine",
        goldens=None,
        files=files,
    )


def write(bundle: Bundle, *, measured: bytes | None) -> None:
    with EngineWriter(bundle, ENGINE) as writer:
        (writer.path / "vision.engine").write_bytes(b"engine")
        if measured is not None:
            (writer.path / TIMING_CACHE).write_bytes(measured)
        writer.commit(record)


def recorded(*, knows: bytes = b"") -> Recorded:
    return Recorded(name=JETPACK_6, ports=Ports(inputs=(), outputs=()), knows=knows)


def test_measurements_of_the_engine_before_are_taken_over(plain_bundle: Bundle, tmp_path: Path) -> None:
    write(plain_bundle, measured=b"measured")
    assert timing_cache.take_over(plain_bundle, ENGINE, tmp_path / "taken", tools=TOOLS)
    assert (tmp_path / "taken").read_bytes() == b"measured"


@pytest.mark.parametrize("there", [False, True])
def test_without_an_engine_or_without_measurements_there_is_nothing_to_take(
    plain_bundle: Bundle, tmp_path: Path, there: bool
) -> None:
    if there:
        write(plain_bundle, measured=None)
    assert not timing_cache.take_over(plain_bundle, ENGINE, tmp_path / "taken", tools=TOOLS)
    assert not (tmp_path / "taken").exists()


@pytest.mark.parametrize(("file", "data"), [("timing.cache", b"measure?"), ("vision.engine", b"engin")])
def test_nothing_damaged_is_taken_over(plain_bundle: Bundle, tmp_path: Path, file: str, data: bytes) -> None:
    write(plain_bundle, measured=b"measured")
    (plain_bundle.path / "engines" / ENGINE / file).write_bytes(data)
    assert not timing_cache.take_over(plain_bundle, ENGINE, tmp_path / "taken", tools=TOOLS)


def test_nothing_of_another_release_is_taken_over(plain_bundle: Bundle, tmp_path: Path) -> None:
    write(plain_bundle, measured=b"measured")
    newer = {"tensorrt": "10.16.1.11"}
    assert not timing_cache.take_over(plain_bundle, ENGINE, tmp_path / "taken", tools=newer)


def test_a_build_begins_from_the_measurements_that_serve(tmp_path: Path) -> None:
    (tmp_path / "timing.cache").write_bytes(b"measured here")
    tensorrt = recorded(knows=b"measured here")
    assert timing_cache.begin(tensorrt.module().IBuilderConfig(), tmp_path / "timing.cache")
    assert tensorrt.timing_caches == [b"measured here"]


@pytest.mark.parametrize("elsewhere", [None, b"measured on another GPU"])
def test_a_build_begins_from_none_where_there_are_no_measurements_or_others(
    tmp_path: Path, elsewhere: bytes | None
) -> None:
    if elsewhere is not None:
        (tmp_path / "timing.cache").write_bytes(elsewhere)
    tensorrt = recorded()
    assert not timing_cache.begin(tensorrt.module().IBuilderConfig(), tmp_path / "timing.cache")
    assert tensorrt.timing_caches == [b""]


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    timing_cache.keep(recorded().module().IBuilderConfig(), tmp_path / "timing.cache")
    assert (tmp_path / "timing.cache").read_bytes() == b"measured more"
