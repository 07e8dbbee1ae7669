"""Building with the full TensorRT for the GPU at hand, driven against the recorded names of each release."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from phiedge.bundle import Bundle
from phiedge.engines.tensorrt import engine_build, library
from phiedge.engines.tensorrt.build_log import BuildLog
from phiedge.engines.tensorrt.driver import Gpu
from phiedge.engines.tensorrt.engine_build import build_engine
from phiedge.engines.tensorrt.ports import decoder_ports, vision_ports
from phiedge.engines.tensorrt.request import BuildRequest
from phiedge.errors import BundleError, DeviceError
from tensorrt_builder import Recorded
from tensorrt_surfaces import JETPACK_6, JETPACK_7, TENSORRT_11

RELEASES = (JETPACK_6, JETPACK_7, TENSORRT_11)
DIALECT = {JETPACK_6: "tensorrt-10.3", JETPACK_7: "tensorrt", TENSORRT_11: "tensorrt"}
VERSION = {JETPACK_6: "10.3.0", JETPACK_7: "10.16.1.11", TENSORRT_11: "11.4.0.106"}
ORIN = Gpu(name="Orin", sm=87, integrated=True, memory_bytes=64 << 30, cuda=(12, 6))
CAPACITY = 512

Build = Callable[..., BuildRequest]


@pytest.fixture
def decoder(plain_bundle: Bundle, tmp_path: Path) -> Build:
    """A request for a decoder, for a release of TensorRT."""

    def request(name: str, *, dialect: str | None = None) -> BuildRequest:
        facts, dialect = plain_bundle.manifest.facts, DIALECT[name] if dialect is None else dialect
        return BuildRequest(
            backend="tensorrt",
            part="decoder",
            dialect=dialect,
            graph="decoder.onnx",
            engine=str(tmp_path / "decoder.engine"),
            layers=str(tmp_path / "decoder.layers.json"),
            sms=(),
            ports=decoder_ports(facts, dialect=dialect, capacity=CAPACITY),
            profiles=((1, 1, 1), (256, 256, 256)),
            attentions=facts.num_layers,
            capacity=CAPACITY,
            timing_cache=str(tmp_path / "timing.cache"),
            threads=None,
        )

    return request


def tensorrt(monkeypatch: pytest.MonkeyPatch, name: str, request: BuildRequest, gpu: Gpu = ORIN) -> Recorded:
    """That release, in whose network everything is as the request says, on a machine with that GPU."""
    modern = request.dialect == "tensorrt"
    recorded = Recorded(
        name=name,
        ports=request.ports,
        attentions=request.attentions if modern else 0,
        caches=request.caches if modern else 0,
    )
    monkeypatch.setitem(sys.modules, "tensorrt", recorded.module())
    monkeypatch.setattr(library, "this_gpu", lambda: gpu)
    return recorded


def silent(share: float) -> None:
    assert 0 <= share <= 1


@pytest.mark.parametrize("name", RELEASES)
def test_an_engine_is_built_with_the_names_of_the_release_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, decoder: Build, name: str
) -> None:
    recorded = tensorrt(monkeypatch, name, decoder(name))
    answer = build_engine(decoder(name), silent)
    assert (tmp_path / "decoder.engine").read_bytes() == recorded.engine
    assert (answer.version, answer.engine_bytes) == (VERSION[name], len(recorded.engine))


@pytest.mark.parametrize(("name", "flags"), [(JETPACK_6, 1 << 1), (JETPACK_7, 1 << 1), (TENSORRT_11, 0)])
def test_the_network_is_strongly_typed(monkeypatch: pytest.MonkeyPatch, decoder: Build, name: str, flags: int) -> None:
    recorded = tensorrt(monkeypatch, name, decoder(name))
    build_engine(decoder(name), silent)
    assert recorded.network_flags == [flags]


@pytest.mark.parametrize("name", RELEASES)
def test_one_row_and_a_chunk_are_two_profiles_of_one_size_each(
    monkeypatch: pytest.MonkeyPatch, decoder: Build, name: str
) -> None:
    recorded = tensorrt(monkeypatch, name, decoder(name))
    build_engine(decoder(name), silent)
    assert [profile["position_ids"] for profile in recorded.profiles] == [((1, 1),) * 3, ((1, 256),) * 3]
    assert "past.0.key" not in recorded.profiles[0]


@pytest.mark.parametrize("name", RELEASES)
def test_measurements_are_kept_and_serve_the_next_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, decoder: Build, name: str
) -> None:
    recorded = tensorrt(monkeypatch, name, decoder(name))
    build_engine(decoder(name), silent)
    assert (tmp_path / "timing.cache").read_bytes() == b"measured more"
    recorded.knows = b"measured more"
    build_engine(decoder(name), silent)
    assert recorded.timing_caches == [b"", b"measured more"]


@pytest.mark.parametrize(("integrated", "pools"), [(True, {"WORKSPACE": 4 << 30}), (False, {})])
def test_kernels_leave_a_jetson_some_of_its_memory(
    monkeypatch: pytest.MonkeyPatch, decoder: Build, integrated: bool, pools: dict[str, int]
) -> None:
    recorded = tensorrt(monkeypatch, JETPACK_6, decoder(JETPACK_6), replace(ORIN, integrated=integrated))
    build_engine(decoder(JETPACK_6), silent)
    assert recorded.pools == pools


def test_a_log_that_reads_differently_does_not_cost_the_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, decoder: Build
) -> None:
    tensorrt(monkeypatch, JETPACK_6, decoder(JETPACK_6))
    build_engine(decoder(JETPACK_6), silent)
    assert (tmp_path / "decoder.engine").exists()
    assert not (tmp_path / "decoder.layers.json").exists()


def test_a_log_that_reads_as_known_is_kept_and_not_judged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, decoder: Build
) -> None:
    """Kernels have other names in other releases: that none is known for an attention says nothing."""
    kernel = (
        "Name: __myl_Sum_myl0_0, LayerType: kgen, Inputs: [ { Name: x, Dimensions: [3], Format/Datatype: Half }], "
        "Outputs: [ { Name: y, Dimensions: [3], Format/Datatype: Half }], TacticName: t, StreamId: 0, Metadata: "
    )
    recorded = tensorrt(monkeypatch, JETPACK_7, decoder(JETPACK_7))
    recorded.says = ("Total Activation Memory: 512 bytes", "Total Weights Memory: 1024 bytes", f"Layers:\n{kernel}")
    build_engine(decoder(JETPACK_7), silent)
    told = BuildLog.from_json((tmp_path / "decoder.layers.json").read_text())
    assert [kernel.name for kernel in told.profiles[0].kernels] == ["__myl_Sum_myl0_0"]


def test_a_decoder_whose_attentions_were_not_all_found_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, decoder: Build
) -> None:
    recorded = tensorrt(monkeypatch, JETPACK_7, decoder(JETPACK_7))
    recorded.attentions -= 1
    with pytest.raises(BundleError, match="TensorRT found .* attentions in the decoder graph"):
        build_engine(decoder(JETPACK_7), silent)
    assert list(tmp_path.glob("*.engine")) == []


def test_the_reason_why_nothing_was_built_is_told(monkeypatch: pytest.MonkeyPatch, decoder: Build) -> None:
    recorded = tensorrt(monkeypatch, JETPACK_6, decoder(JETPACK_6))
    recorded.fails = "Could not find any implementation for node {ForeignNode}"
    with pytest.raises(BundleError, match=r"TensorRT 10\.3\.0 does not build decoder\.onnx: Could not find any"):
        build_engine(decoder(JETPACK_6), silent)


@pytest.mark.parametrize("name", RELEASES)
def test_vision_has_one_profile_over_the_sizes_of_pictures(
    monkeypatch: pytest.MonkeyPatch, plain_bundle: Bundle, decoder: Build, name: str
) -> None:
    facts = plain_bundle.manifest.facts
    request = replace(
        decoder(name),
        part="vision",
        ports=vision_ports(facts),
        profiles=((facts.min_num_patches, facts.max_num_patches, facts.max_num_patches),),
        attentions=facts.vision_layers_used,
        capacity=None,
    )
    recorded = tensorrt(monkeypatch, name, request)
    recorded.operands = 3
    build_engine(request, silent)
    assert len(recorded.profiles) == 1
    smallest, usual, largest = recorded.profiles[0]["patches"]
    assert (smallest[0], usual[0], largest[0]) == (
        facts.min_num_patches,
        facts.max_num_patches,
        facts.max_num_patches,
    )


def test_nothing_of_tensorrt_is_made_on_a_machine_without_a_driver(
    monkeypatch: pytest.MonkeyPatch, decoder: Build
) -> None:
    def no_driver() -> Gpu:
        raise DeviceError("there is no NVIDIA driver", remedy="install it")

    recorded = tensorrt(monkeypatch, TENSORRT_11, decoder(TENSORRT_11))
    monkeypatch.setattr(library, "this_gpu", no_driver)
    monkeypatch.setattr(engine_build, "build_logger", lambda trt: pytest.fail("the builder was made"))
    with pytest.raises(DeviceError, match="there is no NVIDIA driver"):
        build_engine(decoder(TENSORRT_11), silent)
    assert recorded.configs == []
