"""The decoder engine on a device, with its cache there and its decode step recorded.

    host                                             device
    row [hidden], seqlens_k      ── update_inplace ─►  the same, at fixed addresses
    total_sequence_length        stays on the host     caches, bound as past and as present
    logits [vocab]               ◄── one copy ───────  logits

A step copies one row and one number to the device, replays the recording, and copies the logits back. What the
recording holds must not change (`graph_run.py`): all of this is bound once, and `total_sequence_length`, a number of
the host that the attention kernel reads only to size its work, is pinned at the capacity for steps. Chunks of a prompt
come in all lengths and are run as they are; their rows are copied to the device when they are bound.

Opening records the step and compares what a replay gives with the same row run as it is, so that a recording which goes
wrong is known before the first request. That costs a few steps.
"""

from functools import partial
from pathlib import Path

import numpy as np

from phiedge.bundle import ModelFacts
from phiedge.engines.aligned import aligned_zeros
from phiedge.engines.interface import Array
from phiedge.engines.onnxruntime.buffers import alias
from phiedge.engines.onnxruntime.decoder_ports import bind_in_place, cache_names, check_decoder
from phiedge.engines.onnxruntime.device_buffers import DeviceCache, MirroredArray
from phiedge.engines.onnxruntime.device_thread import DeviceThread
from phiedge.engines.onnxruntime.graph_run import GraphRun
from phiedge.engines.onnxruntime.library import ort
from phiedge.engines.onnxruntime.provider import Provider
from phiedge.errors import SessionError

RECORDING_RUNS = 4  # two as they are, one recorded, one replayed
# Of the largest logit. The two ways may split their sums over the cache differently, and compute in 16 bits.
REPLAY_TOLERANCE = 1e-2


class DeviceDecoder:
    """Embeddings to the logits of the last position, with a cache of `capacity` positions on the provider's device."""

    def __init__(
        self,
        path: Path,
        facts: ModelFacts,
        *,
        threads: int,
        capacity: int,
        provider: Provider,
        thread: DeviceThread,
        cache_type: str | None = None,
    ) -> None:
        self._path, self._provider, self._thread, self._cache_type = path, provider, thread, cache_type
        thread(partial(self._open, facts, threads, capacity))

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
        """Where the embedding of the next step goes, `[hidden]`, on the host."""
        view: Array = self._row.host[0, 0]
        return view

    def prefill(self, embeddings: Array, *, past: int) -> Array:
        """Run `embeddings: [t, hidden]` after `past` positions; returns the logits `[vocab]` of the last one.

        The returned array is overwritten by the next run.
        """
        return self._thread(partial(self._prefill, embeddings, past))

    def step(self, *, past: int) -> Array:
        """Run the one embedding in `row` after `past` positions; returns the logits `[vocab]` as `prefill` does."""
        return self._thread(partial(self._step, past))

    def assume(self, length: int) -> None:
        """Nothing to do: the cache always has all its positions."""

    def stop(self) -> None:
        """End a run in progress, unless it is a replay, and every later one until `rearm`; from any thread."""
        self._run.stop()

    def rearm(self) -> None:
        """Allow runs again after `stop`."""
        self._run.rearm()

    def _open(self, facts: ModelFacts, threads: int, capacity: int) -> None:
        provider = self._provider
        self._run = GraphRun(self._path, threads=threads, provider=provider)
        self.input_dtype, cache_dtype = check_decoder(self._run, self._path, facts, cache_type=self._cache_type)
        self._cache = DeviceCache(facts, capacity=capacity, dtype=cache_dtype, provider=provider)
        self._row = MirroredArray((1, 1, facts.hidden_size), self.input_dtype, provider)
        self._logits = MirroredArray((1, 1, facts.vocab_size), np.float32, provider)
        self._last_position = MirroredArray((1,), np.int32, provider)  # seqlens_k: total - 1
        self._total, self._pinned_total = aligned_zeros((), np.int32), aligned_zeros((), np.int32)
        self._pinned_total[()] = capacity
        self._chunk_binding = self._bound(self._total)
        self._step_binding = self._bound(self._pinned_total)
        self._step_binding.bind_ortvalue_input("inputs_embeds", self._row.value)
        self._record()

    def _bound(self, total: Array) -> ort.IOBinding:
        binding = self._run.binding()
        assert list(self._cache.values) == cache_names(len(self._cache.values) // 2)
        lengths = {"seqlens_k": self._last_position.value, "total_sequence_length": alias(total)}
        bind_in_place(binding, inputs=lengths, caches=self._cache.values, logits=self._logits.value)
        return binding

    def _record(self) -> None:
        """Record the step, then run one row recorded and as it is, which must give the same."""
        for _ in range(RECORDING_RUNS):
            self._step(0)
        self._row.host[...] = np.linspace(-1, 1, self._row.host.size, dtype=self.input_dtype)
        last = min(1, self.capacity - 1)
        replayed = self._step(last).copy()
        as_it_is = self._prefill(self._row.host[0], last)
        self._check_addresses()
        difference, largest = np.abs(replayed - as_it_is).max(), np.abs(as_it_is).max()
        if not difference <= REPLAY_TOLERANCE * largest:
            raise SessionError(
                f"{self._path.name}: a decode step that was recorded on {self._provider.name} gives other logits than "
                f"one that was not: they differ by {difference:.2g}, and the largest is {largest:.2g}",
                remedy="install the onnxruntime-gpu that docs/guides/gpu.md names, or use --backend onnxruntime",
            )
        self._row.host.fill(0)

    def _prefill(self, embeddings: Array, past: int) -> Array:
        self._chunk_binding.bind_ortvalue_input("inputs_embeds", alias(embeddings[None]))
        self._total[()] = past + len(embeddings)
        self._set_last_position(past + len(embeddings) - 1)
        self._run(self._chunk_binding)
        return self._read_logits()

    def _step(self, past: int) -> Array:
        self._row.to_device()
        self._set_last_position(past)
        self._run(self._step_binding, captured=True)
        return self._read_logits()

    def _set_last_position(self, position: int) -> None:
        self._last_position.host[0] = position
        self._last_position.to_device()

    def _read_logits(self) -> Array:
        self._logits.to_host()
        view: Array = self._logits.host[0, 0]
        return view

    def _check_addresses(self) -> None:
        bound = [self._logits.value, *self._cache.values.values()]
        for binding in (self._chunk_binding, self._step_binding):
            if [value.data_ptr() for value in binding.get_outputs()] != [value.data_ptr() for value in bound]:
                raise SessionError(
                    f"{self._path}: ONNX Runtime {ort.__version__} did not write the cache in place",
                    remedy="install the onnxruntime-gpu version that docs/guides/gpu.md names",
                )
