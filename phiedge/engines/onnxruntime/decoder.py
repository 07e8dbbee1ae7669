"""The decoder engine on ONNX Runtime, with its cache written in place.

Every input and output of a decode step is bound once, to memory that stays where it is: the step changes numbers in
place and runs. The cache is bound as past and as present alike, which is what lets the attention kernel write it in
place; two buffers would be as correct and copy the whole cache at every step, so the addresses are checked.
"""

from pathlib import Path
from typing import Any

import numpy as np

from phiedge.bundle import ModelFacts
from phiedge.engines.aligned import aligned_zeros
from phiedge.engines.interface import Array
from phiedge.engines.onnxruntime.buffers import HostCache, alias
from phiedge.engines.onnxruntime.graph_run import GraphRun, Shape, float_type, mismatch
from phiedge.engines.onnxruntime.library import ort
from phiedge.errors import SessionError

_INT32 = "tensor(int32)"


class OrtDecoder:
    """Embeddings to the logits of the last position, with a cache of `capacity` positions."""

    def __init__(self, path: Path, facts: ModelFacts, *, threads: int, capacity: int) -> None:
        self._run = GraphRun(path, threads=threads)
        self._path = path
        self.input_dtype, cache_dtype = _check(self._run, path, facts)
        self._cache = HostCache(
            layers=facts.num_layers,
            kv_heads=facts.num_kv_heads,
            capacity=capacity,
            head_dim=facts.head_dim,
            dtype=cache_dtype,
        )
        self._row = aligned_zeros((1, 1, facts.hidden_size), self.input_dtype)
        self._logits = aligned_zeros((1, 1, facts.vocab_size), np.float32)
        self._last_position = aligned_zeros((1,), np.int32)  # seqlens_k: total - 1
        self._total = aligned_zeros((), np.int32)
        self._chunk_binding, self._step_binding = self._run.binding(), self._run.binding()
        self._bind()

    @property
    def capacity(self) -> int:
        return self._cache.capacity

    @property
    def cache_bytes(self) -> int:
        return self._cache.size_bytes

    @property
    def row(self) -> Array:
        """Where the embedding of the next step goes, `[hidden]`."""
        view: Array = self._row[0, 0]
        return view

    def prefill(self, embeddings: Array, *, past: int) -> Array:
        """Run `embeddings: [t, hidden]` after `past` positions; returns the logits `[vocab]` of the last one.

        The returned array is overwritten by the next run.
        """
        self._chunk_binding.bind_ortvalue_input("inputs_embeds", alias(embeddings[None]))
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

    def _bind(self) -> None:
        fixed = {"seqlens_k": alias(self._last_position), "total_sequence_length": alias(self._total)}
        caches = {
            f"{layer}.{side}": alias(view)
            for layer, pair in enumerate(self._cache.layers())
            for side, view in zip(("key", "value"), pair, strict=True)
        }
        logits = alias(self._logits)
        for binding in (self._chunk_binding, self._step_binding):
            for name, value in fixed.items():
                binding.bind_ortvalue_input(name, value)
            for name, value in caches.items():
                binding.bind_ortvalue_input(f"past.{name}", value)
            binding.bind_ortvalue_output("logits", logits)
            for name, value in caches.items():
                binding.bind_ortvalue_output(f"present.{name}", value)
        self._step_binding.bind_ortvalue_input("inputs_embeds", alias(self._row))
        views = [view for pair in self._cache.layers() for view in pair]
        self._addresses = [self._logits.ctypes.data, *(view.ctypes.data for view in views)]

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


def _check(run: GraphRun, path: Path, facts: ModelFacts) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """Hold the graph against the facts; returns the types of its input rows and of its cache."""
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
    types = run.check(inputs=inputs, outputs=outputs)
    for name in ("seqlens_k", "total_sequence_length"):
        if types[name] != _INT32:
            raise mismatch(path, f"{name} is {types[name]}", f"{name} as {_INT32}")
    if float_type(path, types, "logits") != np.float32:
        raise mismatch(path, f"logits is {types['logits']}", "logits as tensor(float)")
    caches = [f"{time}.{side}" for time in ("past", "present") for side in sides]
    return float_type(path, types, "inputs_embeds"), float_type(path, types, *caches)
