"""One graph on ONNX Runtime: opened, held against the model's facts, run, and stopped from another thread.

A provider that captures records the first runs that are asked for as `captured` as a graph of the device: two as they
are, a third while recording, and from then on the recording is replayed, with the addresses and sizes of that third
run. So such runs must always bind the same memory in the same shapes, and only numbers in it may change. ONNX Runtime
records again only in a new session, or on another thread (`device_thread.py`). A replay cannot be stopped half-way.

Threads do not spin while they wait: on a shared machine spinning makes both the median and the tail worse.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from phiedge.engines.interface import RunStoppedError
from phiedge.engines.onnxruntime.library import FATAL_ONLY, ORT_ERRORS, first_line, ort
from phiedge.engines.onnxruntime.provider import CPU, Provider, cpu
from phiedge.engines.threads import check_threads
from phiedge.errors import BundleError, SessionError, out_of_memory

Shape: TypeAlias = tuple[int | None, ...]  # None: a length that differs from call to call

_CAPTURED, _NOT_CAPTURED = "1", "-1"  # gpu_graph_id: any number but 0 names a recording, -1 asks for none

_FLOATS: dict[str, np.dtype[Any]] = {"tensor(float)": np.dtype(np.float32), "tensor(float16)": np.dtype(np.float16)}


class GraphRun:
    """One ONNX Runtime session and the switch that ends its runs."""

    def __init__(self, path: Path, *, threads: int, provider: Provider | None = None) -> None:
        check_threads(threads)
        provider = provider or cpu()
        self.last_ns = 0  # how long the last run took
        self._path = path
        self._remedy = _remedy(provider)
        self._session = _open(path, threads, provider)
        self._plain, self._captured = run_options(), run_options()
        if provider.captures:
            self._plain.add_run_config_entry("gpu_graph_id", _NOT_CAPTURED)
            self._captured.add_run_config_entry("gpu_graph_id", _CAPTURED)

    def __call__(self, binding: ort.IOBinding, *, captured: bool = False) -> None:
        """Run what is bound; with `captured`, record or replay it where the provider can.

        Raises `RunStoppedError` after `stop`, and `SessionError` if it fails.
        """
        options = self._captured if captured else self._plain
        if options.terminate:  # a replay does not look
            raise RunStoppedError
        try:
            begun_ns = time.perf_counter_ns()
            self._session.run_with_iobinding(binding, options)
            self.last_ns = time.perf_counter_ns() - begun_ns
        except ORT_ERRORS as error:
            if options.terminate:
                raise RunStoppedError from error
            if _is_lack_of_memory(error):
                raise out_of_memory(self._path.name, str(error).splitlines()[-1]) from error
            raise SessionError(f"{self._path.name} failed: {first_line(error)}", remedy=self._remedy) from error

    def binding(self) -> ort.IOBinding:
        """A new set of bound inputs and outputs."""
        return self._session.io_binding()

    def stop(self) -> None:
        """End a run in progress, and every later one until `rearm`; callable from any thread."""
        self._plain.terminate = self._captured.terminate = True

    def rearm(self) -> None:
        """Allow runs again after `stop`."""
        self._plain.terminate = self._captured.terminate = False

    def check(self, *, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> dict[str, str]:
        """Compare the graph's inputs and outputs with what the model's facts say; returns their types by name."""
        found = {"input": self._session.get_inputs(), "output": self._session.get_outputs()}
        types: dict[str, str] = {}
        for kind, expected in (("input", inputs), ("output", outputs)):
            shapes = {node.name: node.shape for node in found[kind]}
            if shapes.keys() != expected.keys():
                raise mismatch(self._path, f"{kind}s {_names(shapes, expected)}", f"{kind}s {_names(expected, shapes)}")
            for name, shape in expected.items():
                if not _fits(shapes[name], shape):
                    raise mismatch(self._path, f"{name} {shapes[name]}", f"{name} {list(shape)}")
            types |= {node.name: node.type for node in found[kind]}
        return types


def session_options(threads: int, config: Mapping[str, str] | None = None) -> ort.SessionOptions:
    """The options that every graph is opened with, and the entries of `config`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = FATAL_ONLY
    # A memory pattern is kept for every shape ever seen, and pictures and chunks have no end of shapes.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Processors without VNNI add two products of 8 bits in 16, and lose what does not fit; this takes the kernels that
    # do not. On others it changes nothing.
    options.add_session_config_entry("session.x64quantprecision", "1")
    for key, value in (config or {}).items():
        options.add_session_config_entry(key, value)
    return options


def _open(path: Path, threads: int, provider: Provider) -> ort.InferenceSession:
    try:
        session = ort.InferenceSession(
            str(path),
            sess_options=session_options(threads, provider.session_config),
            providers=[(provider.name, dict(provider.options))],
            disabled_optimizers=list(provider.without) or None,
            enable_fallback=False,  # it would say so on stdout and try the same again
        )
    except ORT_ERRORS as error:
        raise _cannot_open(path, provider, first_line(error)) from error
    if session.get_providers()[0] != provider.name:  # ONNX Runtime puts the CPU in place of what it cannot load
        raise _cannot_open(path, provider, f"it has opened it on {session.get_providers()[0]} instead")
    return session


def _cannot_open(path: Path, provider: Provider, reason: str) -> BundleError | SessionError:
    if provider.name == CPU:
        return BundleError(
            f"ONNX Runtime {ort.__version__} cannot open {path}: {reason}",
            remedy="check the bundle: phiedge verify; or export it again",
        )
    return SessionError(
        f"ONNX Runtime {ort.__version__} cannot open {path} on {provider.name}: {reason}", remedy=_remedy(provider)
    )


def _is_lack_of_memory(error: Exception) -> bool:
    """Its arenas and allocators have no error type of their own; these are words of theirs."""
    return any(
        word in str(error) for word in ("AllocateRaw", "Failed to allocate memory", "bad_alloc", "out of memory")
    )


def _remedy(provider: Provider) -> str:
    if provider.name == CPU:
        return "check the bundle: phiedge verify"
    return "see docs/guides/gpu.md, or compute on the CPU: --backend onnxruntime"


def run_options() -> ort.RunOptions:
    """What every run is made with, so that it can be stopped; a decode step of a tiny model takes 45 us more for it."""
    options = ort.RunOptions()
    options.log_severity_level = FATAL_ONLY
    return options


def float_type(path: Path, types: Mapping[str, str], *names: str) -> np.dtype[Any]:
    """The one floating-point type that the named inputs and outputs share. Raises `BundleError`."""
    for name in names:
        if types[name] not in _FLOATS or types[name] != types[names[0]]:
            raise mismatch(path, f"{name} is {types[name]}", f"{', '.join(names[:2])} in one of {list(_FLOATS)}")
    return _FLOATS[types[names[0]]]


def mismatch(path: Path, found: str, expected: str) -> BundleError:
    """The error for a graph that is not the one that the manifest describes."""
    return BundleError(
        f"{path} does not go with the manifest: the graph has {found}, the model's facts need {expected}",
        remedy="export the bundle again",
    )


def _fits(found: Sequence[int | str | None], expected: Shape) -> bool:
    """Whether a graph's shape (names for lengths that vary) is the expected one; a varying length must be named."""
    return len(found) == len(expected) and all(
        (size is None and not isinstance(have, int)) or size == have for have, size in zip(found, expected, strict=True)
    )


def _names(these: Mapping[str, object], those: Mapping[str, object]) -> str:
    """The names of one side, without those that both sides have when there are many."""
    own = [name for name in these if name not in those]
    return str(own if own else f"{len(these)} of them")
