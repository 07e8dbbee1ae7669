"""The backends by name, each imported only when it is opened.

Where none is asked for, the bundle's target and what is installed choose: a bundle for a GPU opens on CUDA where ONNX
Runtime has it, anything else on the CPU. That choice never looks at the driver: a machine that has the package and not
the rest is told what it lacks, instead of answering slowly.
"""

from collections.abc import Callable
from importlib import import_module

from phiedge.bundle import Bundle
from phiedge.engines.engine_record import BuiltEngine
from phiedge.engines.interface import Engines
from phiedge.errors import UsageError, nearest

DEFAULT_BACKEND = "onnxruntime"
GPU_BACKEND = "onnxruntime-cuda"
OPENVINO_BACKEND = "openvino"

# Where each backend's `open_engines(bundle, *, backend, threads, capacity, engine)` is.
BACKENDS = {
    DEFAULT_BACKEND: "phiedge.engines.onnxruntime.opening",
    GPU_BACKEND: "phiedge.engines.onnxruntime.cuda",
    OPENVINO_BACKEND: "phiedge.engines.openvino.opening",
}


def open_engines(
    bundle: Bundle, *, backend: str | None, threads: int, capacity: int, engine: BuiltEngine | None = None
) -> Engines:
    """Open both graphs of `bundle` with a cache of `capacity` positions on `backend`, or on `default_backend(bundle)`.

    A built engine of the bundle is used where the backend has one; `engine` is one that has no name in it yet.

    Raises `UsageError` for a backend that does not exist, `BundleError` and `SessionError` where it cannot be opened.
    """
    name = default_backend(bundle) if backend is None else backend
    check_backend(name)
    opening: Callable[..., Engines] = import_module(BACKENDS[name]).open_engines
    return opening(bundle, backend=name, threads=threads, capacity=capacity, engine=engine)


def check_backend(name: str) -> None:
    """Raises `UsageError` for a backend that does not exist."""
    if name not in BACKENDS:
        close = nearest(name, BACKENDS) or list(BACKENDS)
        raise UsageError(f"there is no backend {name!r}", remedy=f"use --backend {' or '.join(close)}")


def default_backend(bundle: Bundle) -> str:
    """The backend that suits the bundle's target and the packages of this machine."""
    suits: Callable[[Bundle], bool] = import_module(BACKENDS[GPU_BACKEND]).suits
    return GPU_BACKEND if suits(bundle) else DEFAULT_BACKEND
