"""The two graphs of a bundle on ONNX Runtime's CPU provider. The only module that imports onnxruntime.

Every input and output of a decode step is bound once, to memory that stays where it is: the step changes numbers in
place and runs. The cache is bound as past and as present alike, which is what lets the attention kernel write it in
place; two buffers would be as correct and copy the whole cache at every step, so the addresses are checked.

Threads do not spin while they wait: on a shared machine spinning makes both the median and the tail worse.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

# When it is imported, before anyone can call `disable_telemetry_events`, ONNX Runtime writes an identity of this device
# and a database of events below the home directory, to be sent.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from phiedge.bundle import ModelFacts
from phiedge.engines.aligned import aligned_zeros
from phiedge.engines.threads import check_threads
from phiedge.errors import BundleError, SessionError

BACKEND = "onnxruntime"

Array: TypeAlias = npt.NDArray[Any]
LayerViews: TypeAlias = Sequence[tuple[Array, Array]]
Shape: TypeAlias = tuple[int | None, ...]  # None: a length that differs from call to call

# ONNX Runtime's exceptions share no base class.
_ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(kind for kind in vars(ort_state).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)
_FLOATS: dict[str, np.dtype[Any]] = {"tensor(float)": np.dtype(np.float32), "tensor(float16)": np.dtype(np.float16)}
_INT32 = "tensor(int32)"
_FATAL_ONLY = 4  # ONNX Runtime's log severity: errors come as exceptions, warnings about the machine are not for users

ort.disable_telemetry_events()  # also where another module imported it first


class RunStoppedError(Exception):
    """A run ended early because `stop` was called from another thread. Internal: the session turns it into a result."""


class OrtVision:
    """`patches [n, patch values]` and `pos_embed [n, channels]` to `features [n, hidden]`, at any n."""

    def __init__(self, path: Path, facts: ModelFacts, *, threads: int) -> None:
        self._run = _Run(path, threads)
        inputs = {
            "patches": (None, 3 * facts.patch_size**2),
            "pos_embed": (None, facts.vision_hidden_size),
        }
        types = self._run.check(inputs=inputs, outputs={"features": (None, facts.hidden_size)})
        self.input_dtype = _float_type(path, types, "patches", "pos_embed")
        self.output_dtype = _float_type(path, types, "features")
        self._binding = self._run.binding()

    def encode(self, patches: Array, positions: Array, out: Array) -> None:
        """Write the features of one picture into `out`. Raises `RunStoppedError`, or `SessionError` if it fails."""
        assert patches.dtype == positions.dtype == self.input_dtype
        assert out.dtype == self.output_dtype
        self._binding.bind_ortvalue_input("patches", _alias(patches))
        self._binding.bind_ortvalue_input("pos_embed", _alias(positions))
        self._binding.bind_ortvalue_output("features", _alias(out))
        self._run(self._binding)

    def stop(self) -> None:
        """End a run in progress, and every later one until `rearm`; callable from any thread."""
        self._run.stop()

    def rearm(self) -> None:
        """Allow runs again after `stop`."""
        self._run.rearm()


class OrtDecoder:
    """Embeddings to the logits of the last position, with the cache written in place; `bind` comes before any run."""

    def __init__(self, path: Path, facts: ModelFacts, *, threads: int) -> None:
        self._run = _Run(path, threads)
        self._path = path
        cache = (1, facts.num_kv_heads, None, facts.head_dim)
        sides = [f"{layer}.{side}" for layer in range(facts.num_layers) for side in ("key", "value")]
        inputs: dict[str, Shape] = {
            "inputs_embeds": (1, None, facts.hidden_size),
            "seqlens_k": (1,),
            "total_sequence_length": (),
        }
        inputs |= {f"past.{side}": cache for side in sides}
        outputs: dict[str, Shape] = {"logits": (1, 1, facts.vocab_size)}
        outputs |= {f"present.{side}": cache for side in sides}
        types = self._run.check(inputs=inputs, outputs=outputs)
        for name in ("seqlens_k", "total_sequence_length"):
            if types[name] != _INT32:
                raise _mismatch(path, f"{name} is {types[name]}", f"{name} as {_INT32}")
        self.input_dtype = _float_type(path, types, "inputs_embeds")
        self.cache_dtype = _float_type(
            path, types, *(f"{time}.{side}" for time in ("past", "present") for side in sides)
        )
        if _float_type(path, types, "logits") != np.float32:
            raise _mismatch(path, f"logits is {types['logits']}", "logits as tensor(float)")

        self._row = aligned_zeros((1, 1, facts.hidden_size), self.input_dtype)
        self._logits = aligned_zeros((1, 1, facts.vocab_size), np.float32)
        self._last_position = aligned_zeros((1,), np.int32)  # seqlens_k: total - 1
        self._total = aligned_zeros((), np.int32)
        self._chunk_binding = self._run.binding()
        self._step_binding = self._run.binding()

    @property
    def row(self) -> Array:
        """Where the embedding of the next step goes, `[hidden]`."""
        view: Array = self._row[0, 0]
        return view

    def bind(self, layers: LayerViews) -> None:
        """Bind the cache, key and value of every layer, and every other fixed buffer. Raises `SessionError`."""
        fixed = {
            "seqlens_k": _alias(self._last_position),
            "total_sequence_length": _alias(self._total),
        }
        caches = {
            f"{layer}.{side}": _alias(view)
            for layer, pair in enumerate(layers)
            for side, view in zip(("key", "value"), pair, strict=True)
        }
        logits = _alias(self._logits)
        for binding in (self._chunk_binding, self._step_binding):
            for name, value in fixed.items():
                binding.bind_ortvalue_input(name, value)
            for name, value in caches.items():
                binding.bind_ortvalue_input(f"past.{name}", value)
            binding.bind_ortvalue_output("logits", logits)
            for name, value in caches.items():
                binding.bind_ortvalue_output(f"present.{name}", value)
        self._step_binding.bind_ortvalue_input("inputs_embeds", _alias(self._row))
        self._addresses = [self._logits.ctypes.data, *(view.ctypes.data for pair in layers for view in pair)]

    def prefill(self, embeddings: Array, *, past: int) -> Array:
        """Run `embeddings: [t, hidden]` after `past` positions; returns the logits `[vocab]` of the last one.

        The returned array is overwritten by the next run.
        """
        self._chunk_binding.bind_ortvalue_input("inputs_embeds", _alias(embeddings[None]))
        self._set_length(past + len(embeddings))
        self._run(self._chunk_binding)
        if past == 0:
            self._check_addresses()
        logits: Array = self._logits[0, 0]
        return logits

    def step(self, *, past: int) -> Array:
        """Run the one embedding in `row` after `past` positions; returns the logits `[vocab]` as `prefill` does."""
        self._set_length(past + 1)
        self._run(self._step_binding)
        logits: Array = self._logits[0, 0]
        return logits

    def stop(self) -> None:
        """End a run in progress, and every later one until `rearm`; callable from any thread."""
        self._run.stop()

    def rearm(self) -> None:
        """Allow runs again after `stop`."""
        self._run.rearm()

    def _set_length(self, total: int) -> None:
        self._last_position[0] = total - 1
        self._total[()] = total

    def _check_addresses(self) -> None:
        found = [value.data_ptr() for value in self._chunk_binding.get_outputs()]
        if found != self._addresses:
            raise SessionError(
                f"{self._path}: ONNX Runtime {ort.__version__} did not write the cache in place",
                remedy="install the onnxruntime version that phiedge was tested with",
            )


class _Run:
    """One ONNX Runtime session and the switch that ends its runs."""

    def __init__(self, path: Path, threads: int) -> None:
        check_threads(threads)
        self._path = path
        self._options = ort.RunOptions()
        self._options.log_severity_level = _FATAL_ONLY
        try:
            self._session = ort.InferenceSession(
                str(path),
                sess_options=_session_options(threads),
                providers=["CPUExecutionProvider"],
                enable_fallback=False,  # it would say so on stdout and try the same again
            )
        except _ORT_ERRORS as error:
            raise BundleError(
                f"ONNX Runtime {ort.__version__} cannot open {path}: {_first_line(error)}",
                remedy="check the bundle: phiedge verify; or export it again",
            ) from error

    def __call__(self, binding: ort.IOBinding) -> None:
        try:
            self._session.run_with_iobinding(binding, self._options)
        except _ORT_ERRORS as error:
            if self._options.terminate:
                raise RunStoppedError from error
            raise SessionError(
                f"{self._path.name} failed: {_first_line(error)}", remedy="check the bundle: phiedge verify"
            ) from error

    def binding(self) -> ort.IOBinding:
        return self._session.io_binding()

    def stop(self) -> None:
        self._options.terminate = True

    def rearm(self) -> None:
        self._options.terminate = False

    def check(self, *, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> dict[str, str]:
        """Compare the graph's inputs and outputs with what the model's facts say; returns their types by name."""
        found = {"input": self._session.get_inputs(), "output": self._session.get_outputs()}
        types: dict[str, str] = {}
        for kind, expected in (("input", inputs), ("output", outputs)):
            shapes = {node.name: node.shape for node in found[kind]}
            if shapes.keys() != expected.keys():
                raise _mismatch(
                    self._path, f"{kind}s {_names(shapes, expected)}", f"{kind}s {_names(expected, shapes)}"
                )
            for name, shape in expected.items():
                if not _fits(shapes[name], shape):
                    raise _mismatch(self._path, f"{name} {shapes[name]}", f"{name} {list(shape)}")
            types |= {node.name: node.type for node in found[kind]}
        return types


def _session_options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL_ONLY
    # A memory pattern is kept for every shape ever seen, and pictures and chunks have no end of shapes.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _alias(array: Array) -> ort.OrtValue:
    """An OrtValue on the memory of `array` itself. It holds a reference to the array."""
    assert array.flags.c_contiguous
    value = ort.OrtValue.ortvalue_from_numpy(array)
    if value.data_ptr() != array.ctypes.data:
        raise SessionError(
            f"ONNX Runtime {ort.__version__} copies arrays instead of using them in place",
            remedy="install the onnxruntime version that phiedge was tested with",
        )
    return value


def _float_type(path: Path, types: Mapping[str, str], *names: str) -> np.dtype[Any]:
    """The one floating-point type that the named inputs and outputs share."""
    for name in names:
        if types[name] not in _FLOATS or types[name] != types[names[0]]:
            raise _mismatch(path, f"{name} is {types[name]}", f"{', '.join(names[:2])} in one of {list(_FLOATS)}")
    return _FLOATS[types[names[0]]]


def _fits(found: Sequence[int | str | None], expected: Shape) -> bool:
    """Whether a graph's shape (names for lengths that vary) is the expected one; a varying length must be named."""
    return len(found) == len(expected) and all(
        (size is None and not isinstance(have, int)) or size == have for have, size in zip(found, expected, strict=True)
    )


def _names(these: Mapping[str, object], those: Mapping[str, object]) -> str:
    """The names of one side, without those that both sides have when there are many."""
    own = [name for name in these if name not in those]
    return str(own if own else f"{len(these)} of them")


def _mismatch(path: Path, found: str, expected: str) -> BundleError:
    return BundleError(
        f"{path} does not go with the manifest: the graph has {found}, the model's facts need {expected}",
        remedy="export the bundle again",
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
