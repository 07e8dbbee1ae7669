"""What is opened, and what is refused before it is; over a stand-in of TensorRT and a GPU of host memory."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opened_engines import CONTEXT, Opened, write_engines
from phiedge.bundle import Bundle
from phiedge.engines import backends
from phiedge.engines.backends import DEFAULT_BACKEND, RTX_BACKEND, TENSORRT_BACKEND, default_backend
from phiedge.engines.engine_record import find_engine
from phiedge.engines.tensorrt import driver, opening
from phiedge.errors import BundleError, ContextLengthError, DeviceError, MissingExtraError, SessionError
from phiedge.runtime.goldens import check
from phiedge.runtime.session import Session
from recorded_device import GPU, RecordedMemory
from tensorrt_runtime import library
from tensorrt_surfaces import JETPACK_6, JETPACK_7, RTX, TENSORRT_11

WithEngines = Callable[..., Bundle]
RELEASES = pytest.mark.parametrize("release", [RTX, JETPACK_6, JETPACK_7, TENSORRT_11])


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Makes this a machine with a GPU and one release of TensorRT; gives the library."""

    def has(release: str) -> Any:
        found = library(release)
        monkeypatch.setattr(opening, "load_library", lambda backend: found)
        monkeypatch.setattr(opening, "require_driver", lambda _: GPU)
        monkeypatch.setattr(opening, "PycudaMemory", RecordedMemory)
        return found

    return has


@RELEASES
def test_a_session_answers_as_one_on_onnx_runtime_does_and_says_where_it_ran(
    with_engines: WithEngines, machine: Callable[[str], Any], release: str
) -> None:
    bundle, backend = with_engines(release), machine(release).backend
    pictures = [np.random.default_rng(seed).integers(0, 255, (40 + seed, 60, 3), np.uint8) for seed in range(2)]
    answers = []
    for name in (backend, DEFAULT_BACKEND):
        with Session.open(bundle, threads=1, backend=name) as session:
            asked = [session.generate("What is this?", pictures[:count], max_new_tokens=6) for count in (1, 0, 2)]
        answers.append([answer.token_ids for answer in asked])
        assert {answer.backend for answer in asked} == {name}
    assert answers[0] == answers[1]


def test_a_cancelled_answer_is_an_answer_and_the_session_goes_on(
    with_engines: WithEngines, machine: Callable[[str], Any]
) -> None:
    machine(RTX)
    with Session.open(with_engines(), threads=1, backend=RTX_BACKEND) as session:
        whole = session.generate("Hello", max_new_tokens=6)
        events = session.stream("Hello", max_new_tokens=6)
        next(events)
        session.cancel()
        assert [event.result.finish_reason for event in events if event.result] == ["cancelled"]
        assert session.generate("Hello", max_new_tokens=6).token_ids == whole.token_ids


def test_closing_a_session_frees_the_device(with_engines: WithEngines, machine: Callable[[str], Any]) -> None:
    memories: list[RecordedMemory] = []
    machine(RTX)
    opening.PycudaMemory = lambda gpu: memories.append(RecordedMemory(gpu)) or memories[-1]
    with Session.open(with_engines(), threads=1, backend=RTX_BACKEND) as session:
        session.generate("Hello", max_new_tokens=3)
        assert [memory.closed for memory in memories] == [False]
    assert [memory.closed for memory in memories] == [True]


@pytest.mark.parametrize("release", [RTX, JETPACK_6, JETPACK_7])
def test_the_reference_model_gives_the_answers_that_were_stored_at_its_export(
    reference_with_engines: Callable[..., Bundle], machine: Callable[[str], Any], release: str
) -> None:
    bundle, backend = reference_with_engines(release, chunk=256), machine(release).backend
    checks = check(bundle, backend=backend)
    assert checks
    assert [found for found in checks if not found.ok] == []


def test_a_larger_context_than_the_engines_is_refused_with_both(with_engines: WithEngines) -> None:
    with pytest.raises(ContextLengthError, match=f"{CONTEXT + 1} positions was asked, .* have {CONTEXT}"):
        Opened(with_engines(), library(), capacity=CONTEXT + 1)


def test_a_smaller_context_has_the_engines_cache(with_engines: WithEngines) -> None:
    assert Opened(with_engines(), library(), capacity=8).engines.decoder.capacity == CONTEXT


def test_a_bundle_without_an_engine_is_refused_with_how_to_build_it(gpu_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="has no tensorrt-rtx engine; Stand-in needs one for SM 89") as caught:
        Opened(gpu_bundle, library())
    assert "phiedge build" in str(caught.value.remedy)
    assert "--backend onnxruntime" in str(caught.value.remedy)


def test_engines_for_other_gpus_only_are_refused_with_both(with_engines: WithEngines) -> None:
    with pytest.raises(BundleError, match="no tensorrt-rtx engine for SM 120.* for SM 89"):
        Opened(with_engines(), library(), gpu=replace(GPU, sm=120))


def test_an_engine_of_another_release_is_refused_with_both(with_engines: WithEngines) -> None:
    bundle = with_engines()
    with pytest.raises(BundleError, match=r"was built by tensorrt-rtx 1\.7\.1.*; here is 1\.9\.0"):
        Opened(bundle, replace(library(), version="1.9.0"))


def test_a_bundle_that_lacks_the_dialect_of_the_library_is_refused_with_both(gpu_bundle: Bundle) -> None:
    modern = {name: dialect for name, dialect in gpu_bundle.manifest.dialects.items() if name != "tensorrt-10.3"}
    bundle = replace(gpu_bundle, manifest=replace(gpu_bundle.manifest, dialects=modern))
    with pytest.raises(BundleError, match=r"has graphs for ort, tensorrt; tensorrt 10\.3\.0 computes tensorrt-10\.3"):
        Opened(bundle, library(JETPACK_6))


def test_an_engine_made_of_other_graphs_is_refused(with_engines: WithEngines) -> None:
    bundle = with_engines()
    entry = bundle.manifest.files["decoder.tensorrt.onnx"]
    files = {**bundle.manifest.files, "decoder.tensorrt.onnx": replace(entry, sha256="0" * 64)}
    with pytest.raises(BundleError, match=r"was made from decoder\.tensorrt\.onnx .*the bundle has 000000000000"):
        Opened(replace(bundle, manifest=replace(bundle.manifest, files=files)), library())


def test_an_engine_that_was_cut_is_refused(with_engines: WithEngines) -> None:
    bundle = with_engines()
    engine = bundle.path / "engines" / "tensorrt-rtx-sm89" / "decoder.engine"
    engine.write_bytes(engine.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"decoder\.engine has \d+ bytes instead of"):
        Opened(bundle, library())


def test_what_the_library_does_not_open_is_told_in_its_words_and_all_is_freed(with_engines: WithEngines) -> None:
    bundle = with_engines()
    broken = library()
    broken.trt.faults["deserialize"] = "Unexpected magic number\nat byte 0"
    memories: list[RecordedMemory] = []
    with pytest.raises(BundleError, match=r"tensorrt-rtx 1\.7\.1\S* cannot open .*vision\.engine: Unexpected magic"):
        opening.open_on(
            bundle,
            broken,
            GPU,
            capacity=8,
            open_memory=lambda gpu: memories.append(RecordedMemory(gpu)) or memories[-1],
        )
    assert [memory.closed for memory in memories] == [True]


def test_an_engine_that_makes_no_context_is_a_session_error(with_engines: WithEngines) -> None:
    broken = library()
    broken.trt.faults["context"] = True
    with pytest.raises(SessionError, match=r"vision\.engine makes no execution context: it does not say why"):
        Opened(with_engines(), broken)


def test_a_cache_that_is_not_written_in_place_is_refused_by_name(with_engines: WithEngines) -> None:
    broken = library()
    broken.trt.faults["aliases"] = {"present.1.value": "past.1.key"}
    with pytest.raises(BundleError, match=r"writes present\.1\.value over past\.1\.key; .* over past\.1\.value"):
        Opened(with_engines(), broken)
    broken.trt.faults["aliases"] = {"present.0.key": None}
    with pytest.raises(BundleError, match=r"writes present\.0\.key into memory of its own"):
        Opened(with_engines(), broken)


def test_an_engine_that_wants_numbers_on_the_host_is_refused(with_engines: WithEngines) -> None:
    broken = library()
    broken.trt.faults["location"] = broken.trt.TensorLocation.HOST
    with pytest.raises(BundleError, match="wants patches on the host"):
        Opened(with_engines(), broken)


def test_too_little_memory_for_weights_is_refused_before_anything_is_loaded(with_engines: WithEngines) -> None:
    broken = library()
    broken.trt.faults["deserialize"] = "it was loaded"
    with pytest.raises(DeviceError, match=r"need 0\.50 GB of device memory .*0\.50 for CUDA.*Stand-in has 0\.40 GB"):
        Opened(with_engines(), broken, free_bytes=400_000_000)


def test_too_little_memory_for_buffers_is_refused_before_anything_is_allocated(
    with_engines: WithEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "LIBRARY_BYTES", 0)
    bundle = with_engines()
    with pytest.raises(DeviceError, match=r"for a cache of 1024 positions, 0\.01 for inputs and outputs") as caught:
        Opened(bundle, library(), free_bytes=1_000_000)
    assert "--max-context below 1024" in str(caught.value.remedy)


def test_what_was_compiled_is_kept_for_the_next_start_and_used(with_engines: WithEngines, own_cache: Path) -> None:
    bundle, first = with_engines(), library()
    Opened(bundle, first)
    assert len(list(own_cache.rglob("*.cache"))) == 2  # one for each engine
    second = library()
    Opened(bundle, second)
    assert [config.get_runtime_cache().held for config in second.trt.configs] == 3 * [b"compiled here"]
    vision, step, chunk = second.trt.configs
    assert step.get_runtime_cache() is chunk.get_runtime_cache() is not vision.get_runtime_cache()


def test_an_engine_that_is_being_built_is_opened_and_keeps_nothing(with_engines: WithEngines, own_cache: Path) -> None:
    bundle = with_engines()
    engine = find_engine(bundle, "tensorrt-rtx-sm89")
    Opened(bundle, library(), engine=engine)
    assert not own_cache.exists()


def test_the_full_tensorrt_keeps_nothing_in_the_users_cache(with_engines: WithEngines, own_cache: Path) -> None:
    Opened(with_engines(JETPACK_7), library(JETPACK_7))
    assert not own_cache.exists()


def test_engines_share_one_piece_of_memory_for_their_kernels(with_engines: WithEngines) -> None:
    opened = Opened(with_engines(), library())
    scratch, *_ = opened.memory.named("allocate")
    assert scratch.size_bytes == 2048  # two times 1000, in pieces of 256: what the chunk's profile wants


@pytest.mark.parametrize("backend", [RTX_BACKEND, TENSORRT_BACKEND])
def test_a_machine_without_the_library_or_without_a_driver_is_told_what_is_missing(
    gpu_bundle: Bundle, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "DRIVER", "libcuda.so.of-nobody")
    with pytest.raises((MissingExtraError, DeviceError)) as caught:
        backends.open_engines(gpu_bundle, backend=backend, threads=1, capacity=8)
    lacks_library = isinstance(caught.value, MissingExtraError)
    for wanted in ["pip install 'phiedge["] if lacks_library else ["install NVIDIA's driver", "--backend onnxruntime"]:
        assert wanted in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("release", "installed", "chosen"),
    [
        (RTX, {"tensorrt_rtx", "pycuda"}, RTX_BACKEND),
        (RTX, {"tensorrt_rtx"}, DEFAULT_BACKEND),  # it builds, and cannot run
        (RTX, {"tensorrt", "pycuda"}, DEFAULT_BACKEND),
        (RTX, set(), DEFAULT_BACKEND),
        (JETPACK_7, {"tensorrt", "pycuda"}, TENSORRT_BACKEND),
        (JETPACK_7, {"tensorrt_rtx", "pycuda"}, DEFAULT_BACKEND),
        (None, {"tensorrt", "tensorrt_rtx", "pycuda"}, DEFAULT_BACKEND),  # nothing was built
    ],
)
def test_an_engine_is_the_default_where_what_runs_it_is_installed(
    with_engines: WithEngines,
    gpu_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    release: str | None,
    installed: set[str],
    chosen: str,
) -> None:
    bundle = gpu_bundle if release is None else with_engines(release)
    monkeypatch.setattr(backends, "find_spec", lambda name: name if name in installed else None)
    assert default_backend(bundle) == chosen


def test_an_engine_measured_on_the_device_comes_before_one_built_ahead(
    with_engines: WithEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = with_engines(RTX)
    write_engines(bundle, library(JETPACK_7))
    monkeypatch.setattr(backends, "find_spec", lambda name: name)
    assert default_backend(bundle) == TENSORRT_BACKEND
