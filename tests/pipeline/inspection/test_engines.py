"""Engines as their records and their builders' logs tell of them, with what stands in their way on this machine."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from phiedge.bundle import Bundle
from phiedge.engines.engine_record import RECORD_NAME, EngineRecord
from phiedge.engines.engine_writer import EngineWriter
from phiedge.engines.tensorrt.build_log import BuildLog, Kernel, ProfileLog
from phiedge.errors import DeviceError, MissingExtraError
from phiedge.pipeline.inspection import usability
from phiedge.pipeline.inspection.engines import DamagedEngine, EngineReport, describe_engines, names_in, printable

KERNELS = (
    "__myl_ReplCastMulCastFc_myl0_0",
    "__myl_ReplCastMulCastFc_myl0_4",
    "_gemv_mha_v1_myl0_5 [profile 1]",
    "__mye8487_0_myl0_6",
    "__mye9000_myl0_7",
    "/tower/encoder/layers.0/mlp/fc2/Gemm_myl0_8",
    "/tower/encoder/layers.11/mlp/fc2/Gemm_myl0_9",
)
LOG = BuildLog(
    profiles=(
        ProfileLog(kernels=tuple(Kernel(name=name, inputs=(), outputs=()) for name in KERNELS), activation_bytes=4096),
        ProfileLog(kernels=(Kernel(name=KERNELS[0], inputs=(), outputs=()),), activation_bytes=8192),
    ),
    weights_bytes=1000,
)
LIBRARY = SimpleNamespace(backend="tensorrt-rtx", version="1.7.1.116", capabilities=SimpleNamespace(dialect="tensorrt"))


@pytest.fixture
def put_engine(two_dialects: Bundle) -> Callable[..., None]:
    """Writes an engine as TensorRT-RTX's, for SM 86, with whatever of its record is to be otherwise."""

    def put(name: str = "tensorrt-rtx-sm86", *, log: str = LOG.to_json(), **changes: object) -> None:
        manifest = two_dialects.manifest
        made_from = {file: entry.sha256 for file, entry in manifest.graph_files("decoder.tensorrt.onnx").items()}
        with EngineWriter(two_dialects, name) as writer:
            for part in ("vision", "decoder"):
                (writer.path / f"{part}.engine").write_bytes(part.encode() * 9)
            (writer.path / "decoder.layers.json").write_text(log)
            record = {
                "backend": "tensorrt-rtx",
                "phiedge_version": "0.1.0",
                "tools": {"tensorrt-rtx": "1.7.1.116"},
                "machine": {"compute capabilities": "86"},
                "options": {"dialect": "tensorrt", "capacity": "64", "chunk_tokens": "256"},
                "source": made_from,
                "vision": "vision.engine",
                "decoder": "decoder.engine",
                "goldens": None,
            }
            writer.commit(lambda files: EngineRecord(files=files, **{**record, **changes}))

    return put


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with TensorRT-RTX 1.7.1.116, pycuda and a GPU of SM 86."""
    monkeypatch.setattr(usability, "find_spec", lambda module: module)
    monkeypatch.setattr(usability, "load_library", lambda backend: LIBRARY)
    monkeypatch.setattr(usability, "require_driver", lambda library: SimpleNamespace(name="a card", sm=86))


def only_engine(bundle: Bundle) -> EngineReport:
    (engine,), damaged = describe_engines(bundle)
    assert damaged == ()
    return engine


def messages(bundle: Bundle) -> list[str]:
    return [obstacle.message for obstacle in only_engine(bundle).obstacles]


@pytest.mark.usefixtures("gpu")
def test_an_engine_tells_what_its_record_says(two_dialects: Bundle, put_engine: Callable[..., None]) -> None:
    put_engine()
    engine = only_engine(two_dialects)
    assert (engine.name, engine.backend) == ("tensorrt-rtx-sm86", "tensorrt-rtx")
    assert engine.tools == {"tensorrt-rtx": "1.7.1.116"}
    assert [file.path for file in engine.files] == ["decoder.engine", "decoder.layers.json", "vision.engine"]
    assert engine.bytes == sum(file.bytes for file in engine.files)
    assert (engine.usable, engine.obstacles) == (True, ())


@pytest.mark.usefixtures("gpu")
def test_the_builder_s_log_gives_kernels_by_profile_and_memory(
    two_dialects: Bundle, put_engine: Callable[..., None]
) -> None:
    put_engine()
    vision, decoder = only_engine(two_dialects).graphs
    assert (vision.part, vision.bytes, vision.weights_bytes, vision.profiles) == ("vision", 54, None, ())
    assert (decoder.part, decoder.file, decoder.weights_bytes) == ("decoder", "decoder.engine", 1000)
    step, chunk = decoder.profiles
    assert (step.kernels, step.attentions, step.int4_products, step.activation_bytes) == (7, 1, 2, 4096)
    assert (chunk.kernels, chunk.activation_bytes) == (1, 8192)


@pytest.mark.usefixtures("gpu")
def test_kernels_that_differ_in_numbers_are_of_one_kind(two_dialects: Bundle, put_engine: Callable[..., None]) -> None:
    put_engine()
    kinds = only_engine(two_dialects).graphs[1].profiles[0].kinds
    assert [(kind.kind, kind.count) for kind in kinds] == [
        ("/tower/encoder/layers.*/mlp/fc2/Gemm", 2),
        ("ReplCastMulCastFc", 2),
        ("__mye", 2),
        ("_gemv_mha_v1", 1),
    ]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tools": {"tensorrt-rtx": "1.5.0.99"}}, "was built by tensorrt-rtx 1.5.0.99; here is 1.7.1.116"),
        ({"machine": {"compute capabilities": "89 120"}}, "was built for SM 89, 120; a card is SM 86"),
        ({"machine": {"compute capabilities": "8.6"}}, "was built for the compute capabilities '8.6', which are none"),
        ({"machine": {}}, "was built for the compute capabilities '', which are none"),
        ({"source": {"decoder.data": "0" * 64}}, "was made from decoder.data 000000000000; the bundle has"),
        ({"options": {"dialect": "tensorrt-10.3"}}, "built from the tensorrt-10.3 dialect; tensorrt-rtx 1.7.1.116"),
        ({"backend": "abacus"}, "this phiedge has no engines of the backend 'abacus'"),
        ({"backend": "onnxruntime", "tools": {"onnxruntime": "0.1"}}, "was built by onnxruntime 0.1; here is"),
    ],
)
def test_what_is_not_of_here_is_named_on_both_sides(
    two_dialects: Bundle, put_engine: Callable[..., None], changes: dict[str, object], told: str
) -> None:
    put_engine(**changes)
    (message,) = messages(two_dialects)
    assert told in message


@pytest.mark.usefixtures("gpu")
def test_all_that_is_missing_is_told_each_thing_once(
    two_dialects: Bundle, put_engine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(backend: str) -> None:
        raise MissingExtraError(what=f"--backend {backend}", extra="rtx", missing="tensorrt_rtx")

    def no_pycuda() -> None:
        raise MissingExtraError(what="computing", extra="tensorrt", missing="pycuda")

    monkeypatch.setattr(usability, "load_library", missing)
    monkeypatch.setattr(usability, "find_spec", lambda module: None)
    monkeypatch.setattr(usability, "load_pycuda", no_pycuda)
    put_engine(source={"decoder.data": "0" * 64})
    graphs, package, pycuda = only_engine(two_dialects).obstacles
    assert "was made from decoder.data" in graphs.message
    assert (package.remedy, pycuda.remedy) == ("pip install 'phiedge[rtx]'", "pip install 'phiedge[tensorrt]'")


@pytest.mark.usefixtures("gpu")
def test_without_a_driver_the_engine_is_described_all_the_same(
    two_dialects: Bundle, put_engine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(library: object) -> None:
        raise DeviceError("there is no NVIDIA driver", remedy="install it")

    monkeypatch.setattr(usability, "require_driver", missing)
    put_engine()
    engine = only_engine(two_dialects)
    assert not engine.usable
    assert messages(two_dialects) == ["there is no NVIDIA driver"]
    assert engine.graphs[1].profiles[0].kernels == 7


@pytest.mark.usefixtures("gpu")
def test_a_damaged_engine_is_told_beside_the_whole_ones(two_dialects: Bundle, put_engine: Callable[..., None]) -> None:
    directory = two_dialects.path / "engines"
    for name in ("a-missing", "b-cut", "c-record", "d-log", "e-empty", "f-newer", "g-bytes", "h-deep"):
        put_engine(name, log="{" if name == "d-log" else LOG.to_json())
    (directory / "a-missing" / "decoder.engine").unlink()
    (directory / "b-cut" / "decoder.engine").write_bytes(b"")
    (directory / "c-record" / RECORD_NAME).write_text("{")
    (directory / "e-empty" / RECORD_NAME).unlink()
    newer = directory / "f-newer" / RECORD_NAME
    newer.write_text(newer.read_text().replace('"schema_version": 1', '"schema_version": 9'))
    log = directory / "g-bytes" / "decoder.layers.json"
    log.write_bytes(b"\xff" * log.stat().st_size)
    (directory / "h-deep" / RECORD_NAME).write_text("[" * 100_000)
    (directory / ".i.partial").mkdir()
    put_engine("whole")
    whole, damaged = describe_engines(two_dialects)
    assert [engine.name for engine in whole] == ["whole"]
    told = {engine.name: engine for engine in damaged}
    assert list(told) == ["a-missing", "b-cut", "c-record", "d-log", "e-empty", "f-newer", "g-bytes", "h-deep"]
    assert "decoder.engine is missing" in told["a-missing"].problem
    assert "decoder.engine has 0 bytes instead of 63" in told["b-cut"].problem
    assert "is not JSON" in told["c-record"].problem
    assert "layers is not JSON" in told["d-log"].problem
    assert f"has no {RECORD_NAME}" in told["e-empty"].problem
    assert "schema 9" in told["f-newer"].problem
    assert "layers is not JSON" in told["g-bytes"].problem
    assert "is not JSON" in told["h-deep"].problem
    assert all(isinstance(engine, DamagedEngine) and engine.remedy for engine in damaged)


def test_a_bundle_without_engines_has_none(two_dialects: Bundle) -> None:
    assert describe_engines(two_dialects) == ((), ())
    assert names_in(two_dialects.path / "engines") == []


def test_a_name_that_does_not_print_is_shown_by_its_codes() -> None:
    assert printable("plain-ünit") == "plain-ünit"
    assert printable("a\x1b[2J") == r"'a\x1b[2J'"
    assert printable("\udcff") == r"'\udcff'"
