"""TensorRT-RTX or TensorRT, imported when it is asked for; or what is missing.

Importing one of them needs neither a GPU nor a driver. What computes needs both: call `require_driver` first.
"""

from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any

from phiedge.engines.tensorrt.capabilities import Capabilities, capabilities_of
from phiedge.engines.tensorrt.driver import DRIVER, Gpu, this_gpu
from phiedge.errors import DeviceError, MissingExtraError, SessionError, UsageError, nearest

__all__ = [
    "LIBRARIES",
    "RTX_BACKEND",
    "TENSORRT_BACKEND",
    "Gpu",
    "Library",
    "load_library",
    "require_driver",
    "this_gpu",
]

RTX_BACKEND, TENSORRT_BACKEND = "tensorrt-rtx", "tensorrt"
GUIDE = "docs/guides/orin.md"
CUDA_MAJORS = (13, 12)  # what packages are named after: tensorrt_cu13_libs


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One of the two TensorRTs: its module, the extra that installs it, and the releases that phiedge knows."""

    module: str
    extra: str
    title: str
    first: tuple[int, int]
    last_major: int

    @property
    def releases(self) -> str:
        """The releases that phiedge knows, for people."""
        lowest, major = ".".join(map(str, self.first)), self.first[0]
        return f"{lowest} and later {major}.x" if major == self.last_major else f"{lowest} to {self.last_major}.x"


LIBRARIES = {
    RTX_BACKEND: Origin(module="tensorrt_rtx", extra="rtx", title="TensorRT-RTX", first=(1, 7), last_major=1),
    TENSORRT_BACKEND: Origin(module="tensorrt", extra="tensorrt", title="TensorRT", first=(10, 3), last_major=11),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A TensorRT that was imported: `trt` is its module, `version` as it says it itself ("1.7.1.116")."""

    backend: str
    trt: Any
    version: str
    capabilities: Capabilities


def load_library(backend: str) -> Library:
    """Import the TensorRT of `backend`, "tensorrt-rtx" or "tensorrt".

    Raises `UsageError` for another name, `MissingExtraError` where the package is not installed, `SessionError` where
    one of its shared libraries cannot be loaded or the release is not one that phiedge knows.
    """
    known = _known(backend)
    try:
        trt: Any = import_module(known.module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            what=f"--backend {backend}", extra=known.extra, missing=error.name, otherwise=_on_a_jetson(backend)
        ) from error
    except (ImportError, OSError) as error:
        raise SessionError(
            f"{known.title} is installed and cannot be loaded: {_first_line(error)}",
            remedy=_reinstall(backend, known, str(error)),
        ) from error
    version = str(getattr(trt, "__version__", "of no version"))
    capabilities = capabilities_of(trt, ahead_of_time=backend == RTX_BACKEND, version=_release(version, backend, known))
    return Library(backend=backend, trt=trt, version=version, capabilities=capabilities)


def require_driver(library: Library) -> Gpu:
    """The GPU that `library` would compute on; call it before `trt.Runtime` or the full TensorRT's `trt.Builder`.

    Raises `DeviceError` naming what is missing: the driver, a GPU, or a driver that is new enough for this TensorRT.
    """
    gpu = this_gpu()
    built_for = _cuda_major(library.backend)
    if built_for is not None and gpu.cuda[0] < built_for:
        title = LIBRARIES[library.backend].title
        raise DeviceError(
            f"{title} {library.version} was built for CUDA {built_for}, the driver of {gpu.name} serves CUDA "
            f"{gpu.cuda[0]}.{gpu.cuda[1]}",
            remedy=f"update NVIDIA's driver to one for CUDA {built_for}",
        )
    return gpu


def _known(backend: str) -> Origin:
    if backend not in LIBRARIES:
        close = nearest(backend, LIBRARIES) or list(LIBRARIES)
        raise UsageError(f"{backend!r} is no TensorRT", remedy=f"use {' or '.join(close)}")
    return LIBRARIES[backend]


def _release(version: str, backend: str, known: Origin) -> tuple[int, ...]:
    parts = version.split(".")
    release = tuple(int(part) for part in parts[:2]) if len(parts) > 1 and "".join(parts[:2]).isdigit() else (0, 0)
    if release < known.first or release[0] > known.last_major:
        raise SessionError(
            f"{known.title} is {version} here, phiedge knows {known.releases}",
            remedy=_on_a_jetson(backend) or f"pip install --upgrade 'phiedge[{known.extra}]'",
        )
    return release


def _on_a_jetson(backend: str) -> str | None:
    if backend == RTX_BACKEND:
        return None
    return (
        "on a Jetson it comes with JetPack 6.2 or later, for the system's Python: make the environment with "
        f"python3 -m venv --system-site-packages ({GUIDE})"
    )


def _reinstall(backend: str, known: Origin, told: str) -> str:
    if DRIVER in told:
        return "install NVIDIA's driver"
    again = f"pip install --force-reinstall 'phiedge[{known.extra}]'"
    return again if backend == RTX_BACKEND else f"{again}; on a Jetson: sudo apt install nvidia-jetpack ({GUIDE})"


def _cuda_major(backend: str) -> int | None:
    """The CUDA that the package from pip was built for; None for one from elsewhere: JetPack's suits its driver."""
    for major in CUDA_MAJORS:
        try:
            metadata.version(f"{LIBRARIES[backend].module}_cu{major}_libs")
        except metadata.PackageNotFoundError:
            continue
        return major
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
