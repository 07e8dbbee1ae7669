"""The backends by name, each imported only when it is opened."""

from collections.abc import Callable
from importlib import import_module

from phiedge.bundle import Bundle
from phiedge.engines.engine_record import BuiltEngine
from phiedge.engines.interface import Engines
from phiedge.errors import UsageError, nearest

DEFAULT_BACKEND = "onnxruntime"

# Where each backend's `open_engines(bundle, *, backend, threads, capacity, engine)` is.
BACKENDS = {
    "onnxruntime": "phiedge.engines.onnxruntime.opening",
}


def open_engines(
    bundle: Bundle, *, backend: str | None, threads: int, capacity: int, engine: BuiltEngine | None = None
) -> Engines:
    """Open both graphs of `bundle` with a cache of `capacity` positions on `backend`, or on the default one.

    A built engine of the bundle is used where the backend has one; `engine` is one that has no name in it yet.

    Raises `UsageError` for a backend that does not exist, `BundleError` and `SessionError` where it cannot be opened.
    """
    name = DEFAULT_BACKEND if backend is None else backend
    if name not in BACKENDS:
        close = nearest(name, BACKENDS) or list(BACKENDS)
        raise UsageError(f"there is no backend {name!r}", remedy=f"use --backend {' or '.join(close)}")
    opening: Callable[..., Engines] = import_module(BACKENDS[name]).open_engines
    return opening(bundle, backend=name, threads=threads, capacity=capacity, engine=engine)
