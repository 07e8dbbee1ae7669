"""The backends by name, each imported only when it is opened.

Where none is asked for, the bundle and what is installed choose:

1. TensorRT or TensorRT-RTX, where the bundle has an engine of it and this Python has what runs one: the library and
   pycuda. An engine is in a bundle because somebody built it, so that it is used.
2. ONNX Runtime on CUDA, where the bundle was made for a GPU that it can use.
3. ONNX Runtime on the CPU.

That choice never looks at the driver: a machine that has the packages and not the rest is told what it lacks, instead
of answering slowly. A machine that only builds engines ahead of time needs no pycuda, and answers on its processor.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

from phiedge.bundle import Bundle
from phiedge.engines.engine_record import BuiltEngine
from phiedge.engines.interface import Engines
from phiedge.errors import UsageError, nearest

DEFAULT_BACKEND = "onnxruntime"
GPU_BACKEND = "onnxruntime-cuda"
OPENVINO_BACKEND = "openvino"
TENSORRT_BACKEND = "tensorrt"
RTX_BACKEND = "tensorrt-rtx"

# Where each backend's `open_engines(bundle, *, backend, threads, capacity, engine)` is.
BACKENDS = {
    DEFAULT_BACKEND: "phiedge.engines.onnxruntime.opening",
    GPU_BACKEND: "phiedge.engines.onnxruntime.cuda",
    OPENVINO_BACKEND: "phiedge.engines.openvino.opening",
    TENSORRT_BACKEND: "phiedge.engines.tensorrt.opening",
    RTX_BACKEND: "phiedge.engines.tensorrt.opening",
}

# What running an engine of TensorRT takes, and what its engines' directories begin with. The one that measures its
# kernels on the device comes first.
_TENSORRT_MODULES = {TENSORRT_BACKEND: ("tensorrt", "pycuda"), RTX_BACKEND: ("tensorrt_rtx", "pycuda")}


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
    """The backend that suits the bundle and the packages of this machine."""
    for name, modules in _TENSORRT_MODULES.items():
        if _has_engine(bundle, name) and all(find_spec(module) for module in modules):
            return name
    suits: Callable[[Bundle], bool] = import_module(BACKENDS[GPU_BACKEND]).suits
    return GPU_BACKEND if suits(bundle) else DEFAULT_BACKEND


def _has_engine(bundle: Bundle, backend: str) -> bool:
    """Whether the bundle has an engine of a TensorRT, for whatever GPU; it is not looked into."""
    return any((bundle.path / "engines").glob(f"{backend}-sm*"))
