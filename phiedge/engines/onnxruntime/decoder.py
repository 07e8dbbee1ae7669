"""The decoder engine on ONNX Runtime, with its cache written in place.

Every input and output of a decode step is bound once, to memory that stays where it is: the step changes numbers in
place and runs. The cache is bound as past and as present alike, which is what lets the attention kernel write it in
place; two buffers would be as correct and copy the whole cache at every step, so the addresses are checked.
"""

from pathlib import Path

import numpy as np

from phiedge.bundle import ModelFacts
from phiedge.engines.aligned import aligned_zeros
from phiedge.engines.interface import Array
from phiedge.engines.onnxruntime.buffers import HostCache, alias
from phiedge.engines.onnxruntime.decoder_ports import bind_in_place, cache_names, check_decoder
from phiedge.engines.onnxruntime.graph_run import GraphRun
from phiedge.engines.onnxruntime.library import ort
from phiedge.errors import SessionError


class OrtDecoder:
    """Embeddings to the logits of the last position, with a cache of `capacity` positions."""

    def __init__(
        self, path: Path, facts: ModelFacts, *, threads: int, capacity: int, cache_type: str | None = None
    ) -> None:
        self._run = GraphRun(path, threads=threads)
        self._path = path
        self.input_dtype, cache_dtype = check_decoder(self._run, path, facts, cache_type=cache_type)
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
    def run_ns(self) -> int:
        return self._run.last_ns

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

    def assume(self, length: int) -> None:
        """Nothing to do: the cache always has all its positions."""

    def stop(self) -> None:
        """End a run in progress, and every later one until `rearm`; callable from any thread."""
        self._run.stop()

    def rearm(self) -> None:
        """Allow runs again after `stop`."""
        self._run.rearm()

    def _bind(self) -> None:
        views = [view for pair in self._cache.layers() for view in pair]
        caches = dict(zip(cache_names(len(views) // 2), map(alias, views), strict=True))
        lengths = {"seqlens_k": alias(self._last_position), "total_sequence_length": alias(self._total)}
        for binding in (self._chunk_binding, self._step_binding):
            bind_in_place(binding, inputs=lengths, caches=caches, logits=alias(self._logits))
        self._step_binding.bind_ortvalue_input("inputs_embeds", alias(self._row))
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
