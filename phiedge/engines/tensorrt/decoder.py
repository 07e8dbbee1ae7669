"""The decoder engine on TensorRT, with its cache on the device and its decode step recorded.

    host                                      device
    row [hidden] ─► pinned piece ── copy ──►  inputs_embeds, position_ids, last_row
                                              caches, bound as past and as present
    logits [vocab] ◄─ pinned ◄──── copy ────  logits

Two execution contexts, one for a row and one for a chunk, share the caches, the logits and the memory that their
kernels work in; they never run at the same time. A prompt runs in whole chunks. What is left is padded to a chunk where
the cache has room for one, and runs row by row where it has not: rows behind the last that counts are written to the
cache, too, where nobody sees them before they are written over.

In the modern dialect an engine writes its caches itself. In the conservative one it gives the new rows, and one copy of
lines puts them into all caches after the run.

What nobody sees is multiplied by zero, and zero times an infinity is no number. So where a request has left such rows
in the cache, or ended before that could be known, the next one begins with zeros.

`stop` is looked at before anything is enqueued. What has been enqueued ends by itself: at most one chunk.

Opening records the step and compares the same row before and after, with another in between, so that a recording which
goes wrong is known before the first request.
"""

import math
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np

from phiedge.engines.aligned import aligned_zeros
from phiedge.engines.interface import Array, RunStoppedError
from phiedge.engines.tensorrt.buffer_plan import ACTIVATION, CHUNK, LOGIT, POSITION, STEP, DecoderPlan, InputLayout
from phiedge.engines.tensorrt.device_memory import DeviceMemory, NotRecordedError
from phiedge.engines.tensorrt.engine_thread import EngineThread
from phiedge.engines.tensorrt.loaded_engine import Execution, LoadedEngine
from phiedge.errors import SessionError

WARM_UP_RUNS = 3  # as they are, so that all is compiled and allocated before a step is recorded
# Of the largest logit: the same kernels on the same row, but another split of their sums may be chosen.
REPLAY_TOLERANCE = 1e-2


class TensorRtDecoder:
    """Embeddings to the logits of the last position, with a cache of the engine's own capacity on the device."""

    input_dtype = ACTIVATION

    def __init__(
        self,
        engine: LoadedEngine,
        plan: DecoderPlan,
        *,
        thread: EngineThread,
        scratch: int,
        scratch_bytes: int,
    ) -> None:
        self._plan, self._thread, self._stopped = plan, thread, False
        self._row: Array = aligned_zeros((plan.hidden,), ACTIVATION)
        self._logits: Array = aligned_zeros((plan.vocab,), LOGIT)
        self.run_ns = 0
        self._sound = True  # whether all of the cache is numbers, as far as is known
        self._device = thread(partial(_DecoderOnDevice, engine, plan, thread.memory, scratch, scratch_bytes))
        thread.hold(self._device.close)
        thread(partial(_record, self._device))

    @property
    def capacity(self) -> int:
        return self._plan.capacity

    @property
    def cache_bytes(self) -> int:
        return self._plan.cache_bytes

    @property
    def row(self) -> Array:
        """Where the embedding of the next step goes, `[hidden]`, on the host."""
        return self._row

    def prefill(self, embeddings: Array, *, past: int) -> Array:
        """Run `embeddings: [t, hidden]` after `past` positions; returns the logits `[vocab]` of the last one.

        The returned array is overwritten by the next run. Raises `RunStoppedError`, `SessionError`.
        """
        return self._thread(partial(self._prefill, embeddings, past))

    def step(self, *, past: int) -> Array:
        """Run the one embedding in `row` after `past` positions; returns and raises as `prefill` does."""
        return self._thread(partial(self._prefill, self._row[None], past))

    def assume(self, length: int) -> None:
        """Nothing to do: the cache always has all its positions, and begins as zeros."""

    def stop(self) -> None:
        """Let nothing more be enqueued until `rearm`; from any thread. What has been enqueued ends by itself."""
        self._stopped = True

    def rearm(self) -> None:
        """Allow runs again after `stop`."""
        self._stopped = False

    def _prefill(self, embeddings: Array, past: int) -> Array:
        length = len(embeddings)
        if length < 1 or past + length > self.capacity:
            raise SessionError(
                f"{length} rows after {past} do not fit into a cache of {self.capacity}",
                remedy="ask for less, or export the bundle with a larger --max-context",
            )
        if past == 0 and not self._sound:
            self._device.clear()
        self._sound = False
        run_ns, start = 0, 0
        while start < length:
            if self._stopped:
                raise RunStoppedError
            count = self._rows_of_next_run(length - start, past + start)
            last = start + count == length
            run_ns += self._device.run(
                embeddings[start : start + count], past + start, logits=self._logits if last else None
            )
            start += count
        self.run_ns = run_ns
        self._sound = math.isfinite(self._logits[0])  # a row that is no number makes all that come after it none
        return self._logits

    def _rows_of_next_run(self, left: int, past: int) -> int:
        """A chunk, or all that is left of one where a padded chunk fits into the cache, or one row."""
        fits = past + self._plan.chunk_tokens <= self._plan.capacity
        return min(left, self._plan.chunk_tokens) if fits else 1


class _DecoderOnDevice:
    """What of the decoder lives on the engine's thread: contexts, addresses, pinned memory."""

    def __init__(
        self, engine: LoadedEngine, plan: DecoderPlan, memory: DeviceMemory, scratch: int, scratch_bytes: int
    ) -> None:
        self.engine, self.plan, self.memory = engine, plan, memory
        self._caches = memory.allocate(plan.cache_bytes)
        self.clear()
        self._new_rows = 0 if plan.in_place else memory.allocate(plan.rows_bytes)
        self._logits, self._logits_pinned = memory.allocate(plan.logits_bytes), memory.pinned(plan.logits_bytes)
        self._timer = memory.timer()
        records = engine.library.capabilities.cuda_graph_strategy
        opened = partial(Execution, engine, memory, scratch=scratch, scratch_bytes=scratch_bytes)
        self._step = _Run(self, opened(profile=STEP, records=records), plan.step)
        self._chunk = _Run(self, opened(profile=CHUNK), plan.chunk)
        if plan.in_place:
            engine.check_in_place({f"present.{slot}": f"past.{slot}" for slot in plan.slots})

    def clear(self) -> None:
        """Make all of the caches zeros: what is not seen is multiplied by zero, and must be a number for that."""
        self.memory.zero(self._caches, self.plan.cache_bytes)

    def addresses(self, rows: int) -> dict[str, int]:
        """Where everything but the inputs of a chunk lies, by the engine's names."""
        caches = self.plan.caches(self._caches)
        present = caches if self.plan.in_place else self.plan.new_rows(self._new_rows, rows=rows)
        return (
            {"logits": self._logits}
            | {f"past.{slot}": address for slot, address in caches.items()}
            | {f"present.{slot}": address for slot, address in present.items()}
        )

    def run(self, embeddings: Array, past: int, *, logits: Array | None) -> int:
        """Run up to a chunk of rows and wait for it; returns how long the device computed, in nanoseconds.

        The logits are fetched only where they are asked for.
        """
        run = self._step if len(embeddings) == 1 else self._chunk
        run.load(embeddings, past)
        self._timer.start()
        run.enqueue()
        if not self.plan.in_place:
            used = len(embeddings)
            copy = self.plan.into_cache(
                rows_at=self._new_rows, caches_at=self._caches, rows=run.layout.rows, used=used, past=past
            )
            self.memory.copy_lines(copy)
        self._timer.stop()
        if logits is not None:
            self.memory.to_host(self._logits_pinned, self._logits)
        self.memory.synchronise()
        if logits is not None:
            logits[...] = self._logits_pinned.view(LOGIT)
        return self._timer.elapsed_ns()

    def record(self) -> None:
        """Have the step recorded, by the library or by the driver; it runs as it is where neither can."""
        try:
            if self.engine.library.capabilities.cuda_graph_strategy:
                if not self._step.execution.records_itself:
                    raise NotRecordedError("it says that it cannot be captured")
                return
            self._step.enqueue = self.memory.record_graph(self._step.execution.enqueue).launch
        except NotRecordedError as error:
            warnings.warn(
                f"{self.engine.path.name}: a decode step cannot be recorded as a CUDA graph ({error}); every token "
                "launches its kernels one by one, and takes longer",
                RuntimeWarning,
                stacklevel=2,
            )

    def close(self) -> None:
        """Let go of the contexts."""
        for run in (self._step, self._chunk):
            run.execution.close()


class _Run:
    """One of the two contexts with the piece of memory that its inputs come from."""

    def __init__(self, device: _DecoderOnDevice, execution: Execution, layout: InputLayout) -> None:
        memory = device.memory
        self.layout, self.execution, self._memory = layout, execution, memory
        self.enqueue: Callable[[], None] = execution.enqueue
        self._inputs, self._pinned = memory.allocate(layout.size_bytes), memory.pinned(layout.size_bytes)
        embeddings_bytes = layout.rows * layout.hidden * ACTIVATION.itemsize
        positions = self._pinned[layout.positions : layout.positions + layout.rows * POSITION.itemsize]
        self._embeddings = self._pinned[:embeddings_bytes].view(ACTIVATION).reshape(layout.rows, layout.hidden)
        self._positions = positions.view(POSITION)
        self._last_row = self._pinned[layout.last_row :].view(POSITION)
        self._ascending = np.arange(layout.rows, dtype=POSITION)
        self._filled = 0
        inputs = {name: self._inputs + offset for name, offset in layout.addresses.items()}
        execution.shape({"inputs_embeds": (1, *self._embeddings.shape), "position_ids": (1, layout.rows)})
        execution.bind(inputs | device.addresses(layout.rows))

    def load(self, embeddings: Array, past: int) -> None:
        """Enqueue the copy of all inputs, by one call. Rows that are left are zeros."""
        count = len(embeddings)
        self._embeddings[:count] = embeddings
        self._embeddings[count : self._filled] = 0
        self._filled = count
        np.add(self._ascending, past, out=self._positions)
        self._last_row[0] = count - 1
        self._memory.to_device(self._inputs, self._pinned)


def _record(device: _DecoderOnDevice) -> None:
    """Run both contexts until all is compiled, record the step, and hold what it then gives against before."""
    hidden, vocab = device.plan.hidden, device.plan.vocab
    before, after, other = (np.empty(vocab, LOGIT) for _ in range(3))
    tried, last = np.linspace(-1, 1, hidden, dtype=ACTIVATION)[None], min(1, device.plan.capacity - 1)
    device.run(np.zeros((device.plan.chunk_tokens, hidden), ACTIVATION), 0, logits=None)
    device.run(tried, last, logits=before)
    for _ in range(WARM_UP_RUNS):
        device.run(tried[:, ::-1], last, logits=other)
    device.record()
    device.run(tried[:, ::-1], last, logits=other)
    device.run(tried, last, logits=after)
    difference, largest = np.abs(after - before).max(), np.abs(before).max()
    if not difference <= REPLAY_TOLERANCE * largest:
        raise SessionError(
            f"{device.engine.path.name}: a decode step gives other logits once it is recorded: they differ by "
            f"{difference:.2g}, and the largest is {largest:.2g}",
            remedy="build the engine again: phiedge build; or compute on the CPU: --backend onnxruntime",
        )
    device.clear()
