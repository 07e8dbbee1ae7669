"""What can be said of a GPU without one: what is refused and why, and that the whole opens over a stand-in."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from phiedge.bundle import Bundle
from phiedge.engines.backends import DEFAULT_BACKEND, GPU_BACKEND, default_backend, open_engines
from phiedge.engines.onnxruntime import cuda
from phiedge.engines.onnxruntime.library import ort
from phiedge.engines.onnxruntime.provider import CPU, CUDA, Provider
from phiedge.errors import BundleError, SessionError
from phiedge.runtime.session import Session


@pytest.fixture
def gpu_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if onnxruntime-gpu were installed."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "cuda_version", "13.0", raising=False)


@pytest.fixture
def for_a_gpu(export_oracle: Callable[[str], Bundle]) -> Bundle:
    bundle = export_oracle("fp16")
    return replace(bundle, manifest=replace(bundle.manifest, target={"name": "rtx-4090", "sm": "8.9"}))


def test_a_bundle_for_a_gpu_opens_on_it_where_the_package_can(for_a_gpu: Bundle, gpu_package: None) -> None:
    assert default_backend(for_a_gpu) == GPU_BACKEND


def test_anything_else_opens_on_the_cpu(
    for_a_gpu: Bundle, export_oracle: Callable[[str], Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    single, half = export_oracle("fp32"), export_oracle("fp16")
    for_orin = replace(single, manifest=replace(single.manifest, target={"name": "orin", "sm": "8.7"}))
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    assert default_backend(half) == DEFAULT_BACKEND  # its target is the CPU
    assert default_backend(for_orin) == DEFAULT_BACKEND  # it computes in 32 bits
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])
    assert default_backend(for_a_gpu) == DEFAULT_BACKEND


def test_a_graph_of_32_bits_is_refused_with_what_would_do(oracle_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="computes in float32, .* 16 bits only on CUDA") as caught:
        open_engines(oracle_bundle, backend=GPU_BACKEND, threads=1, capacity=8)
    assert "--precision fp16" in str(caught.value.remedy)


def test_a_package_without_cuda_is_named(for_a_gpu: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])
    with pytest.raises(SessionError, match=f"{ort.__version__} has no CUDA in it") as caught:
        open_engines(for_a_gpu, backend=GPU_BACKEND, threads=1, capacity=8)
    assert "pip uninstall onnxruntime, then pip install 'onnxruntime-gpu[cuda,cudnn]'" in str(caught.value.remedy)


def test_a_missing_driver_is_named(gpu_package: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_loads", lambda library: library != cuda.DRIVER)
    with pytest.raises(SessionError, match=r"libcuda\.so\.1 cannot be loaded") as caught:
        cuda.check_machine()
    assert "nvidia-smi" in str(caught.value.remedy)


@pytest.mark.parametrize("library", ["libcublasLt.so.13", "libcudnn.so.9"])
def test_a_missing_library_is_named_with_the_version_of_cuda(
    gpu_package: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], library: str
) -> None:
    monkeypatch.setattr(cuda, "_loads", lambda name: name != library)
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load everything"), raising=False)
    with pytest.raises(SessionError, match=rf"built for CUDA 13\.0, and {library} cannot be loaded") as caught:
        cuda.check_machine()
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]==" in str(caught.value.remedy)
    assert capfd.readouterr() == ("", "")


def test_a_machine_that_has_everything_is_not_refused(gpu_package: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_loads", lambda name: True)
    monkeypatch.setattr(ort, "preload_dlls", lambda: None, raising=False)
    cuda.check_machine()


def test_a_session_on_it_answers_as_one_on_the_cpu_and_says_where_it_ran(
    for_a_gpu: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "check_machine", lambda: None)
    monkeypatch.setattr(
        cuda, "cuda", lambda *, captures, folds=False: Provider(name=CPU, device="cpu", captures=captures)
    )
    picture = np.full((40, 60, 3), 90, np.uint8)
    answers = []
    for backend in (GPU_BACKEND, DEFAULT_BACKEND):
        with Session.open(for_a_gpu, max_context=640, threads=1, backend=backend) as session:
            answers.append(session.generate("What is this?", [picture], max_new_tokens=5))
    assert answers[0].token_ids == answers[1].token_ids
    assert [answer.backend for answer in answers] == [GPU_BACKEND, DEFAULT_BACKEND]
