from collections.abc import Mapping
from pathlib import Path

import pytest

from phiedge.bundle import Bundle, FileEntry
from phiedge.engines.engine_record import EngineRecord, find_engine
from phiedge.engines.engine_writer import EngineWriter
from phiedge.errors import BundleError


def record(files: Mapping[str, FileEntry]) -> EngineRecord:
    return EngineRecord(
        backend="kernels",
        phiedge_version="0.1.0",
        tools={},
        machine={},
        options={},
        source={},
        vision="graph",
        decoder="graph",
        goldens=None,
        files=files,
    )


def write(bundle: Bundle, data: bytes) -> None:
    with EngineWriter(bundle, "kernels-cpu") as writer:
        (writer.path / "graph").write_bytes(data)
        writer.commit(record)


def names(bundle: Bundle) -> list[str]:
    return sorted(path.name for path in (bundle.path / "engines").iterdir())


def test_an_engine_replaces_the_one_before(plain_bundle: Bundle) -> None:
    for data in (b"first", b"the second"):
        write(plain_bundle, data)
        engine = find_engine(plain_bundle, "kernels-cpu")
        assert engine is not None
        assert engine.file("graph").read_bytes() == data
    assert names(plain_bundle) == ["kernels-cpu"]


@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt()])
def test_an_error_leaves_the_engine_before_and_nothing_else(plain_bundle: Bundle, error: BaseException) -> None:
    write(plain_bundle, b"first")
    with pytest.raises(type(error)):
        with EngineWriter(plain_bundle, "kernels-cpu") as writer:
            (writer.path / "graph").write_bytes(b"half")
            raise error
    assert names(plain_bundle) == ["kernels-cpu"]
    engine = find_engine(plain_bundle, "kernels-cpu")
    assert engine is not None
    assert engine.file("graph").read_bytes() == b"first"


def test_what_a_killed_builder_left_is_removed(plain_bundle: Bundle) -> None:
    left = plain_bundle.path / "engines" / ".kernels-cpu.partial"
    left.mkdir(parents=True)
    (left / "old").write_bytes(b"half")
    write(plain_bundle, b"whole")
    assert names(plain_bundle) == ["kernels-cpu"]
    assert sorted(path.name for path in (plain_bundle.path / "engines" / "kernels-cpu").iterdir()) == [
        "engine.json",
        "graph",
    ]


def test_two_builders_of_one_engine_do_not_run_at_once(plain_bundle: Bundle) -> None:
    with EngineWriter(plain_bundle, "kernels-cpu") as first:
        (first.path / "graph").write_bytes(b"first")
        with pytest.raises(BundleError, match="is being built by another process"):
            write(plain_bundle, b"second")
        first.commit(record)
    engine = find_engine(plain_bundle, "kernels-cpu")
    assert engine is not None
    assert engine.file("graph").read_bytes() == b"first"


def test_too_little_disk_is_refused_with_both_numbers(plain_bundle: Bundle) -> None:
    with EngineWriter(plain_bundle, "kernels-cpu") as writer:
        with pytest.raises(BundleError, match=r"needs 1000000\.0 GB, .* has .* GB free"):
            writer.require_space(10**15)


def test_the_bundle_stays_whole_beside_an_engine(plain_bundle: Bundle) -> None:
    write(plain_bundle, b"engine")
    assert Bundle.open(plain_bundle.path).check_files() == []
    assert isinstance(plain_bundle.path, Path)
