import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from phiedge.bundle import Bundle, FileEntry
from phiedge.engines.engine_record import (
    RECORD_NAME,
    BuiltEngine,
    EngineRecord,
    built_engines,
    check_engine,
    find_engine,
)
from phiedge.engines.engine_writer import EngineWriter
from phiedge.errors import BundleError, SchemaError

TOOLS, MACHINE = {"kernels": "2.0"}, {"architecture": "x86_64", "instruction sets": "avx2 avx512f"}


@pytest.fixture
def engine(plain_bundle: Bundle) -> BuiltEngine:
    graphs = [name for name in plain_bundle.manifest.files if name.endswith(".onnx")]
    with EngineWriter(plain_bundle, "kernels-cpu") as writer:
        for name in ("vision.bin", "decoder.bin"):
            (writer.path / name).write_bytes(name.encode())
        return writer.commit(
            lambda files: EngineRecord(
                backend="kernels",
                phiedge_version="0.1.0",
                tools=TOOLS,
                machine=MACHINE,
                options={},
                source={name: plain_bundle.manifest.files[name].sha256 for name in graphs},
                vision="vision.bin",
                decoder="decoder.bin",
                goldens=None,
                files=files,
            )
        )


def rewrite(engine: BuiltEngine, change: Callable[[dict], object]) -> None:
    record = json.loads((engine.path / RECORD_NAME).read_bytes())
    change(record)
    (engine.path / RECORD_NAME).write_text(json.dumps(record))


def test_an_engine_is_found_as_it_was_written(engine: BuiltEngine, plain_bundle: Bundle) -> None:
    assert find_engine(plain_bundle, "kernels-cpu") == engine
    assert built_engines(plain_bundle) == [engine]
    assert engine.check_files() == []
    check_engine(engine, plain_bundle, tools=TOOLS, machine=MACHINE)


def test_a_bundle_without_engines_has_none(plain_bundle: Bundle) -> None:
    assert find_engine(plain_bundle, "kernels-cpu") is None
    assert built_engines(plain_bundle) == []


@pytest.mark.parametrize(
    ("tools", "machine", "message"),
    [
        ({"kernels": "2.1"}, MACHINE, r"was built by kernels 2\.0; here is 2\.1"),
        ({"kernels": "2.0", "driver": "9"}, MACHINE, r"built by driver nothing; here is 9"),
        (TOOLS, {**MACHINE, "architecture": "aarch64"}, r"built for architecture x86_64; here is aarch64"),
        (TOOLS, {**MACHINE, "instruction sets": "avx2"}, r"instruction sets avx2 avx512f; here is avx2"),
    ],
)
def test_another_version_or_machine_is_refused_naming_both_sides(
    engine: BuiltEngine, plain_bundle: Bundle, tools: dict, machine: dict, message: str
) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        check_engine(engine, plain_bundle, tools=tools, machine=machine)
    assert "phiedge build" in str(caught.value.remedy)


def test_an_engine_of_other_graphs_is_refused(engine: BuiltEngine, plain_bundle: Bundle) -> None:
    name = next(name for name in plain_bundle.manifest.files if name.startswith("decoder"))
    files = {**plain_bundle.manifest.files, name: FileEntry(sha256="5" * 64, bytes=1)}
    other = replace(plain_bundle, manifest=replace(plain_bundle.manifest, files=files))
    with pytest.raises(BundleError, match=f"made from {name} [0-9a-f]{{12}}; the bundle has 555555555555"):
        check_engine(engine, other, tools=TOOLS, machine=MACHINE)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda record: record.update(schema_version=2), SchemaError, "schema 2, this phiedge reads 1"),
        (lambda record: record.update(speed=3), BundleError, "unknown key 'speed'"),
        (lambda record: record.pop("machine"), BundleError, "lacks the key 'machine'"),
        (lambda record: record.update(vision="other.bin"), BundleError, "names 'other.bin', which it does not list"),
        (
            lambda record: record["files"].update({"../x": record["files"].pop("vision.bin")}),
            BundleError,
            "not a plain path",
        ),
    ],
)
def test_a_record_that_does_not_hold_together_is_refused_with_a_way_out(
    engine: BuiltEngine, plain_bundle: Bundle, change: Callable[[dict], object], error: type, message: str
) -> None:
    rewrite(engine, change)
    with pytest.raises(error, match=message) as caught:
        find_engine(plain_bundle, "kernels-cpu")
    assert "phiedge build" in str(caught.value.remedy)


def test_a_record_that_is_missing_or_no_json_is_refused(engine: BuiltEngine, plain_bundle: Bundle) -> None:
    (engine.path / RECORD_NAME).write_text("{")
    with pytest.raises(BundleError, match="is not JSON"):
        find_engine(plain_bundle, "kernels-cpu")
    (engine.path / RECORD_NAME).unlink()
    with pytest.raises(BundleError, match=f"has no {RECORD_NAME}"):
        find_engine(plain_bundle, "kernels-cpu")


def test_files_that_are_missing_cut_short_or_changed_are_found(engine: BuiltEngine, plain_bundle: Bundle) -> None:
    (engine.path / "decoder.bin").write_bytes(b"decoder.bit")
    (problem,) = engine.check_files()
    assert (problem.path, problem.kind) == ("engines/kernels-cpu/decoder.bin", "changed")
    (engine.path / "decoder.bin").write_bytes(b"dec")
    with pytest.raises(BundleError, match="decoder.bin has 3 bytes instead of 11"):
        find_engine(plain_bundle, "kernels-cpu")
    (engine.path / "decoder.bin").unlink()
    with pytest.raises(BundleError, match="decoder.bin is missing"):
        find_engine(plain_bundle, "kernels-cpu")
