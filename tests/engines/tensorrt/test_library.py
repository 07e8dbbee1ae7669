import sys
from importlib import metadata
from pathlib import Path

import pytest

from phiedge.engines.tensorrt import library
from phiedge.engines.tensorrt.driver import Gpu
from phiedge.engines.tensorrt.library import Library, load_library, require_driver
from phiedge.errors import DeviceError, MissingExtraError, SessionError, UsageError
from tensorrt_surfaces import JETPACK_6, JETPACK_7, RTX, TENSORRT_11, stand_in

ORIN = Gpu(name="Orin", sm=87, integrated=True, memory_bytes=64 * 2**30, cuda=(12, 6))


def load(monkeypatch: pytest.MonkeyPatch, name: str, *, version: str | None = None) -> Library:
    module = stand_in(name)
    if version is not None:
        vars(module)["__version__"] = version
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return load_library("tensorrt-rtx" if name == RTX else "tensorrt")


def installed(monkeypatch: pytest.MonkeyPatch, directory: Path, *, text: str, module: str = "tensorrt") -> None:
    """A package of that name that is found first and says `text` when it is imported."""
    (directory / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(directory)
    monkeypatch.delitem(sys.modules, module, raising=False)


@pytest.mark.parametrize(
    ("name", "backend", "version", "dialect"),
    [
        (RTX, "tensorrt-rtx", "1.7.1.116", "tensorrt"),
        (JETPACK_6, "tensorrt", "10.3.0", "tensorrt-10.3"),
        (JETPACK_7, "tensorrt", "10.16.1.11", "tensorrt"),
        (TENSORRT_11, "tensorrt", "11.4.0.106", "tensorrt"),
    ],
)
def test_a_known_release_is_loaded_with_what_it_can_do(
    monkeypatch: pytest.MonkeyPatch, name: str, backend: str, version: str, dialect: str
) -> None:
    loaded = load(monkeypatch, name)
    assert (loaded.backend, loaded.version, loaded.capabilities.dialect) == (backend, version, dialect)
    assert loaded.trt is sys.modules[loaded.trt.__name__]


@pytest.mark.parametrize(
    ("name", "version", "told"),
    [
        (RTX, "1.6.0.10", "TensorRT-RTX is 1.6.0.10 here, phiedge knows 1.7 and later 1.x"),
        (RTX, "2.0.0.1", "TensorRT-RTX is 2.0.0.1 here, phiedge knows 1.7 and later 1.x"),
        (JETPACK_6, "8.6.2", "TensorRT is 8.6.2 here, phiedge knows 10.3 to 11.x"),
        (JETPACK_6, "10.2.0", "TensorRT is 10.2.0 here, phiedge knows 10.3 to 11.x"),
        (TENSORRT_11, "12.0.0", "TensorRT is 12.0.0 here, phiedge knows 10.3 to 11.x"),
        (TENSORRT_11, "rc", "TensorRT is rc here, phiedge knows 10.3 to 11.x"),
    ],
)
def test_an_unknown_release_is_refused_naming_both(
    monkeypatch: pytest.MonkeyPatch, name: str, version: str, told: str
) -> None:
    with pytest.raises(SessionError, match=told) as refused:
        load(monkeypatch, name, version=version)
    assert ("pip install --upgrade 'phiedge[rtx]'" if name == RTX else "JetPack 6.2") in str(refused.value.remedy)


def test_a_name_that_is_no_tensorrt_is_refused() -> None:
    with pytest.raises(UsageError, match="'tensorrt_rtx' is no TensorRT") as refused:
        load_library("tensorrt_rtx")
    assert refused.value.remedy == "use tensorrt-rtx or tensorrt"


@pytest.mark.parametrize(
    ("backend", "module", "line"),
    [
        ("tensorrt-rtx", "tensorrt_rtx", "pip install 'phiedge[rtx]'"),
        ("tensorrt", "tensorrt", "pip install 'phiedge[tensorrt]'; on a Jetson it comes with JetPack 6.2 or later"),
    ],
)
def test_a_missing_package_is_named_with_the_pip_line(
    monkeypatch: pytest.MonkeyPatch, backend: str, module: str, line: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=f"--backend {backend} needs .*{module} is not installed") as refused:
        load_library(backend)
    assert str(refused.value.remedy).startswith(line)


def test_a_shared_library_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = "libnvonnxparser.so.11: cannot open shared object file: No such file or directory"
    installed(monkeypatch, tmp_path, text=f"raise ImportError({told!r})")
    with pytest.raises(SessionError, match=f"TensorRT is installed and cannot be loaded: {told}") as refused:
        load_library("tensorrt")
    assert "sudo apt install nvidia-jetpack" in str(refused.value.remedy)


def test_a_package_that_needs_the_driver_to_be_imported_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed(monkeypatch, tmp_path, text="import ctypes\nctypes.CDLL('libcuda.so.1.none')\n", module="tensorrt_rtx")
    with pytest.raises(SessionError, match=r"TensorRT-RTX is installed and cannot be loaded: libcuda\.so") as refused:
        load_library("tensorrt-rtx")
    assert refused.value.remedy == "install NVIDIA's driver"


def test_what_computes_needs_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> Gpu:
        raise DeviceError("there is no NVIDIA driver", remedy="install it")

    monkeypatch.setattr(library, "this_gpu", no_driver)
    with pytest.raises(DeviceError, match="there is no NVIDIA driver"):
        require_driver(load(monkeypatch, TENSORRT_11))


def test_a_driver_older_than_the_cuda_that_the_package_was_built_for_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = load(monkeypatch, TENSORRT_11)
    monkeypatch.setattr(library, "this_gpu", lambda: ORIN)
    monkeypatch.setattr(metadata, "version", lambda package: {"tensorrt_cu13_libs": "11.4"}[package])
    with pytest.raises(DeviceError, match=r"was built for CUDA 13, the driver of Orin serves CUDA 12\.6"):
        require_driver(found)


def test_jetpacks_tensorrt_suits_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    found = load(monkeypatch, JETPACK_6)
    monkeypatch.setattr(library, "this_gpu", lambda: ORIN)
    assert require_driver(found) == ORIN
