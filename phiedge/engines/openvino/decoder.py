"""The decoder engine on OpenVINO's CPU plugin, with a cache of our own that its paged attention reads and writes."""

import threading
import time
from pathlib import Path

import numpy as np

from phiedge.bundle import ModelFacts
from phiedge.engines.aligned import aligned_zeros
from phiedge.engines.interface import Array, RunStoppedError
from phiedge.engines.openvino.graph import EMBEDDINGS, LOGITS, POSITIONS, DecoderGraph
from phiedge.engines.openvino.library import OV_ERRORS, first_line, ov
from phiedge.engines.openvino.paged_cache import PagedCache
from phiedge.engines.openvino.weights import read_weights
from phiedge.engines.threads import check_threads
from phiedge.errors import BundleError, SessionError

# By default the plugin computes in bfloat16 where the processor can, and rounds the logits with it, and keeps the cache
# as 8-bit integers. Here it computes as the bundle says.
_PRECISION = "f32"
# A request that was cancelled while it ran does not compute again (OpenVINO 2026.4: its shapes are out of step), so
# a stop is looked for between runs, and a chunk is several of them. Fewer rows to a run cost speed: 64 almost none.
_ROWS_OF_A_RUN = 64


class OpenVinoDecoder:
    """Embeddings to the logits of the last position, with a cache of `capacity` positions."""

    def __init__(self, path: Path, facts: ModelFacts, *, group_size: int, threads: int, capacity: int) -> None:
        check_threads(threads)
        self._name, self._capacity = path.name, capacity
        # The compiled model goes on using the graph's arrays and the mapped file behind them.
        self._graph = DecoderGraph(read_weights(path), facts)
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _PRECISION,
            "KV_CACHE_PRECISION": _PRECISION,
            # Rows are rounded to int8 in groups as large as those of the weights, as ONNX Runtime's kernels do.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": group_size,
        }
        try:
            model = ov.Core().compile_model(self._graph.model(), "CPU", options)
            self._request = model.create_infer_request()
        except OV_ERRORS as error:
            raise BundleError(
                f"OpenVINO {ov.__version__} cannot compile {path}: {first_line(error)}",
                remedy="compute on ONNX Runtime: --backend onnxruntime",
            ) from error
        self._cache = PagedCache(model, self._request, capacity=capacity)
        self._row = aligned_zeros((1, facts.hidden_size), np.dtype(np.float32))
        self._step_rows = ov.Tensor(self._row, shared_memory=True)
        self._step_position = np.zeros(1, np.int64)
        self._step_positions = ov.Tensor(self._step_position, shared_memory=True)
        self._run_ns = 0
        self._stopped = threading.Event()
        self.step(past=0)  # OpenVINO packs the weights when it first computes: a minute for 15 billion of them

    @property
    def input_dtype(self) -> np.dtype[np.float32]:
        return np.dtype(np.float32)

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def cache_bytes(self) -> int:
        return self._cache.size_bytes

    @property
    def run_ns(self) -> int:
        """How long OpenVINO ran in the last run."""
        return self._run_ns

    @property
    def row(self) -> Array:
        """Where the embedding of the next step goes, `[hidden]`."""
        view: Array = self._row[0]
        return view

    def prefill(self, embeddings: Array, *, past: int) -> Array:
        """Run `embeddings: [t, hidden]` after `past` positions; returns the logits `[vocab]` of the last one.

        The returned array is overwritten by the next run.
        """
        assert past + len(embeddings) <= self._capacity, (past, len(embeddings), self._capacity)
        assert embeddings.shape[1:] == self.row.shape, (embeddings.shape, self.row.shape)  # OpenVINO would not notice
        self._run_ns = 0
        for start in range(0, len(embeddings), _ROWS_OF_A_RUN):
            rows = embeddings[start : start + _ROWS_OF_A_RUN]
            positions = np.arange(past + start, past + start + len(rows), dtype=np.int64)
            logits = self._run(
                ov.Tensor(rows, shared_memory=True), ov.Tensor(positions, shared_memory=True), past + start, len(rows)
            )
        return logits

    def step(self, *, past: int) -> Array:
        """Run the one embedding in `row` after `past` positions; returns the logits `[vocab]` as `prefill` does."""
        assert past < self._capacity, (past, self._capacity)
        self._run_ns, self._step_position[0] = 0, past
        return self._run(self._step_rows, self._step_positions, past, 1)

    def assume(self, length: int) -> None:
        """Nothing to do: the cache always has all its positions."""

    def stop(self) -> None:
        """End what is in progress after at most 64 rows, and refuse every later run until `rearm`; from any thread."""
        self._stopped.set()

    def rearm(self) -> None:
        """Allow runs again after `stop`."""
        self._stopped.clear()

    def _run(self, rows: ov.Tensor, positions: ov.Tensor, past: int, count: int) -> Array:
        if self._stopped.is_set():
            raise RunStoppedError
        self._cache.place(past, count)
        begun_ns = time.perf_counter_ns()
        try:
            self._request.set_tensor(EMBEDDINGS, rows)
            self._request.set_tensor(POSITIONS, positions)
            self._request.infer()
        except OV_ERRORS as error:
            raise SessionError(
                f"{self._name} failed on OpenVINO {ov.__version__}: {first_line(error)}",
                remedy="check the bundle: phiedge verify; or compute on ONNX Runtime: --backend onnxruntime",
            ) from error
        self._run_ns += time.perf_counter_ns() - begun_ns
        if self._stopped.is_set():
            raise RunStoppedError
        logits: Array = self._request.get_tensor(LOGITS).data.reshape(-1)
        return logits
