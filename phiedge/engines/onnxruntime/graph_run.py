"""One graph on ONNX Runtime: opened, held against the model's facts, run, and stopped from another thread.

Threads do not spin while they wait: on a shared machine spinning makes both the median and the tail worse.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from phiedge.engines.interface import RunStoppedError
from phiedge.engines.onnxruntime.library import FATAL_ONLY, ORT_ERRORS, first_line, ort
from phiedge.engines.threads import check_threads
from phiedge.errors import BundleError, SessionError

Shape: TypeAlias = tuple[int | None, ...]  # None: a length that differs from call to call

_FLOATS: dict[str, np.dtype[Any]] = {"tensor(float)": np.dtype(np.float32), "tensor(float16)": np.dtype(np.float16)}


class GraphRun:
    """One ONNX Runtime session and the switch that ends its runs."""

    def __init__(self, path: Path, *, threads: int) -> None:
        check_threads(threads)
        self._path = path
        self._options = ort.RunOptions()
        self._options.log_severity_level = FATAL_ONLY
        try:
            self._session = ort.InferenceSession(
                str(path),
                sess_options=session_options(threads),
                providers=["CPUExecutionProvider"],
                enable_fallback=False,  # it would say so on stdout and try the same again
            )
        except ORT_ERRORS as error:
            raise BundleError(
                f"ONNX Runtime {ort.__version__} cannot open {path}: {first_line(error)}",
                remedy="check the bundle: phiedge verify; or export it again",
            ) from error

    def __call__(self, binding: ort.IOBinding) -> None:
        """Run what is bound. Raises `RunStoppedError` after `stop`, and `SessionError` if it fails."""
        try:
            self._session.run_with_iobinding(binding, self._options)
        except ORT_ERRORS as error:
            if self._options.terminate:
                raise RunStoppedError from error
            raise SessionError(
                f"{self._path.name} failed: {first_line(error)}", remedy="check the bundle: phiedge verify"
            ) from error

    def binding(self) -> ort.IOBinding:
        """A new set of bound inputs and outputs."""
        return self._session.io_binding()

    def stop(self) -> None:
        """End a run in progress, and every later one until `rearm`; callable from any thread."""
        self._options.terminate = True

    def rearm(self) -> None:
        """Allow runs again after `stop`."""
        self._options.terminate = False

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


def session_options(threads: int) -> ort.SessionOptions:
    """The options that every graph is opened with."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = FATAL_ONLY
    # A memory pattern is kept for every shape ever seen, and pictures and chunks have no end of shapes.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
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
