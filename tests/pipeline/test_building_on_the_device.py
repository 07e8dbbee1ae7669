"""`phiedge build --backend tensorrt`, whole, with a stand-in for the TensorRT and the GPU of the device."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tensorrt_runtime
from command_lines import assert_refused, tell
from phiedge.bundle import Bundle, BundleWriter
from phiedge.engines.tensorrt import building, library, opening
from phiedge.engines.tensorrt.driver import Gpu
from phiedge.engines.tensorrt.engine_build import build_engine
from phiedge.engines.tensorrt.ports import Ports
from phiedge.engines.tensorrt.pycuda_memory import load_pycuda
from phiedge.engines.tensorrt.request import BuildAnswer, BuildRequest
from phiedge.errors import DeviceError
from phiedge.pipeline import building_tensorrt
from phiedge.pipeline.engine_trial import try_engine
from phiedge.progress import Progress
from phiedge.runtime import goldens
from recorded_device import RecordedMemory
from tensorrt_builder import Recorded
from tensorrt_runtime import write_engine
from tensorrt_surfaces import JETPACK_6, JETPACK_7, TENSORRT_11

ORIN = Gpu(name="Orin", sm=87, integrated=True, memory_bytes=64 << 30, cuda=(13, 2))
Device = Callable[..., Recorded]


@pytest.fixture
def bundle(exported_bundle: Path, tmp_path: Path) -> Path:
    """The reference model as exported for Orin, on the device."""
    copy = tmp_path / "bundle"
    shutil.copytree(exported_bundle, copy)
    return copy


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """Makes this machine a Jetson Orin with a TensorRT, as far as `phiedge build` can see."""

    def make(name: str, gpu: Gpu = ORIN) -> Recorded:
        recorded = Recorded(name=name, ports=Ports(inputs=(), outputs=()))
        monkeypatch.setitem(sys.modules, "tensorrt", recorded.module())
        for module in (library, building):
            monkeypatch.setattr(module, "this_gpu", lambda: gpu)

        def in_this_process(request: BuildRequest, progress: Progress) -> BuildAnswer:
            """The network is as the request says; a picture's attentions have no mask."""
            modern = request.dialect == "tensorrt"
            recorded.ports = request.ports
            recorded.attentions = request.attentions if modern else 0
            recorded.caches = request.caches if modern else 0
            recorded.operands = 4 if request.part == "decoder" else 3
            return build_engine(BuildRequest.from_json(request.to_json()), lambda share: None)

        monkeypatch.setattr(building_tensorrt, "build_in_process", in_this_process)
        monkeypatch.setattr(building_tensorrt, "load_pycuda", lambda: None)
        monkeypatch.setattr(building_tensorrt, "try_engine", lambda *_, **__: None)
        return recorded

    return make


@pytest.fixture
def tried(device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Jetson whose engines run: on ONNX Runtime, over a GPU of host memory."""
    device(JETPACK_7)

    def as_the_runtime_reads_it(request: BuildRequest, progress: Progress) -> BuildAnswer:
        write_engine(Path(request.engine), Path(request.graph), profiles=request.profiles)
        return BuildAnswer(version="", engine_bytes=0, build_ns=0, peak_bytes=0)

    monkeypatch.setattr(building_tensorrt, "build_in_process", as_the_runtime_reads_it)
    monkeypatch.setattr(building_tensorrt, "try_engine", try_engine)
    monkeypatch.setattr(opening, "load_library", lambda backend: tensorrt_runtime.library(JETPACK_7))
    monkeypatch.setattr(opening, "require_driver", lambda library: ORIN)
    monkeypatch.setattr(opening, "PycudaMemory", RecordedMemory)


def test_an_engine_that_answers_as_the_export_did_gets_its_name(
    bundle: Path, tried: None, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tell(capsys, "build", bundle, "--backend", "tensorrt", "--json")
    assert (told.code, told.json["engines"][0]["goldens"]) == (0, None)


def test_an_engine_that_answers_otherwise_never_gets_its_name(
    bundle: Path, tried: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = goldens.load(Bundle.open(bundle))
    spoilt = [replace(golden, logits=golden.logits + np.abs(golden.logits).max()) for golden in stored]
    monkeypatch.setattr(goldens, "load", lambda _: spoilt)
    told = assert_refused(capsys, "build", bundle, "--backend", "tensorrt")
    assert "the engine does not answer the golden 'text' as" in told
    assert list((bundle / "engines").iterdir()) == []


def test_where_the_export_tried_nothing_the_devices_answers_are_kept(
    bundle: Path, tried: None, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Bundle.open(bundle).manifest
    with BundleWriter(bundle.with_name("untried")) as writer:
        for file in (path for path in bundle.iterdir() if path.name in manifest.files and path.suffix != ".npz"):
            shutil.copy(file, writer.path / file.name)
        untried = writer.commit(replace(manifest, goldens=None, files={})).path
    told = tell(capsys, "build", untried, "--backend", "tensorrt", "--json")
    assert told.json["engines"][0]["goldens"] == "goldens.npz"
    assert [golden.question.name for golden in goldens.load(Bundle.open(untried))]


def test_a_device_that_could_not_try_its_engine_does_not_begin(
    bundle: Path, device: Device, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device(JETPACK_7)
    monkeypatch.setattr(building_tensorrt, "load_pycuda", load_pycuda)
    monkeypatch.setitem(sys.modules, "pycuda", None)
    told = assert_refused(capsys, "build", bundle, "--backend", "tensorrt")
    assert "pycuda" in told
    assert not (bundle / "engines").exists()


@pytest.mark.parametrize("name", [JETPACK_6, JETPACK_7, TENSORRT_11])
def test_a_device_builds_engines_for_its_own_gpu(
    bundle: Path, device: Device, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    recorded = device(name)
    told = tell(capsys, "build", bundle, "--backend", "tensorrt", "--json")
    assert (told.code, told.err) == (0, "")
    (engine,) = told.json["engines"]
    assert Path(engine["engine"]).name == "tensorrt-sm87"
    assert engine["tools"] == {"tensorrt": recorded.trt.__version__}
    assert engine["machine"] == {"compute capabilities": "87"}
    assert engine["options"]["dialect"] == ("tensorrt-10.3" if name == JETPACK_6 else "tensorrt")
    written = {path.name for path in (bundle / "engines" / "tensorrt-sm87").iterdir()}
    assert written == {"vision.engine", "decoder.engine", "timing.cache", "engine.json"}


def test_both_engines_and_the_next_build_share_what_was_measured(
    bundle: Path, device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = device(JETPACK_7)
    recorded.knows = b"measured more"
    for _ in range(2):
        assert tell(capsys, "build", bundle, "--backend", "tensorrt").code == 0
    assert recorded.timing_caches == [b"", *[b"measured more"] * 3]
    record = json.loads((bundle / "engines" / "tensorrt-sm87" / "engine.json").read_text())
    assert "timing.cache" in record["files"]


def test_engines_of_another_release_are_replaced_and_its_measurements_left_behind(
    bundle: Path, device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (JETPACK_7, TENSORRT_11):
        recorded = device(name)
        recorded.knows = b"measured more"
        assert tell(capsys, "build", bundle, "--backend", "tensorrt").code == 0
    assert recorded.timing_caches == [b"", b"measured more"]
    assert [path.name for path in (bundle / "engines").iterdir()] == ["tensorrt-sm87"]


def test_a_bundle_of_other_dialects_names_what_the_device_wants(
    bundle: Path, device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Bundle.open(bundle).manifest
    with BundleWriter(bundle.with_name("other")) as writer:
        for file in (path for path in bundle.iterdir() if path.name in manifest.files):
            shutil.copy(file, writer.path / file.name)
        other = writer.commit(replace(manifest, dialects={"ort": manifest.dialects["ort"]}, files={}))
    device(JETPACK_6)
    told = assert_refused(capsys, "build", other.path, "--backend", "tensorrt")
    assert "has graphs of the dialects ort, tensorrt 10.3.0 needs tensorrt-10.3" in told
    assert not (other.path / "engines").exists()


def test_other_gpus_than_the_one_at_hand_are_refused(
    bundle: Path, device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    device(JETPACK_7)
    told = assert_refused(capsys, "build", bundle, "--backend", "tensorrt", "--sm", "86", code=2)
    assert "builds for the GPU at hand, which is SM 87, not 86" in told


def test_weights_that_do_not_fit_the_gpu_are_refused_before_anything_is_built(
    bundle: Path, device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    device(JETPACK_7, replace(ORIN, name="Small", integrated=False, memory_bytes=1_000_000))
    told = assert_refused(capsys, "build", bundle, "--backend", "tensorrt")
    assert "GB of the GPU when its engines are built, Small has 0.00 GB" in told
    assert not (bundle / "engines").exists()


def test_a_machine_without_a_driver_builds_nothing(
    bundle: Path, device: Device, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_driver() -> Gpu:
        raise DeviceError("there is no NVIDIA driver: libcuda.so.1", remedy="install it")

    device(JETPACK_7)
    monkeypatch.setattr(building, "this_gpu", no_driver)
    told = assert_refused(capsys, "build", bundle, "--backend", "tensorrt")
    assert "there is no NVIDIA driver" in told
    assert not (bundle / "engines").exists()


def test_a_build_that_fails_leaves_the_engine_before(
    bundle: Path, device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = device(JETPACK_7)
    assert tell(capsys, "build", bundle, "--backend", "tensorrt").code == 0
    recorded.fails = "Could not find any implementation for node {ForeignNode}"
    told = assert_refused(capsys, "build", bundle, "--backend", "tensorrt")
    assert "TensorRT 10.16.1.11 does not build" in told
    assert [path.name for path in (bundle / "engines").iterdir()] == ["tensorrt-sm87"]
    assert Bundle.open(bundle).check_files() == []
