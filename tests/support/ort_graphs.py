"""Running exported graphs on ONNX Runtime with nothing in between, for tests of the graphs themselves."""

from pathlib import Path

import numpy as np
import onnxruntime as ort


def open_graph(path: Path | bytes) -> ort.InferenceSession:
    """A session with one thread on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(
        path if isinstance(path, bytes) else str(path), options, providers=["CPUExecutionProvider"]
    )


class CachedDecoder:
    """A decoder graph with one buffer per cache, bound as past and as present; the buffers start as NaN."""

    def __init__(self, path: Path, *, capacity: int) -> None:
        self.session = open_graph(path)
        ports = {port.name: port for port in self.session.get_inputs()}
        self.dtype = np.float16 if "float16" in ports["inputs_embeds"].type else np.float32
        self.caches = {}
        for name, port in ports.items():
            if name.startswith("past."):
                _, heads, _, size = port.shape
                self.caches[name.removeprefix("past.")] = np.full((1, heads, capacity, size), np.nan, self.dtype)
        self.length = 0

    def run(self, rows: np.ndarray, *, pinned_total: int | None = None) -> np.ndarray:
        """Append `rows: [t, hidden]` and return the logits [vocab] of the last one."""
        self.length += len(rows)
        binding = self.session.io_binding()
        binding.bind_output("logits", "cpu")
        total = np.array(pinned_total or self.length, np.int32)
        lengths = np.array([self.length - 1], np.int32)
        binding.bind_cpu_input("inputs_embeds", np.ascontiguousarray(rows[None], self.dtype))
        binding.bind_cpu_input("seqlens_k", lengths)
        binding.bind_cpu_input("total_sequence_length", total)
        for name, cache in self.caches.items():
            value = ort.OrtValue.ortvalue_from_numpy(cache)
            binding.bind_ortvalue_input(f"past.{name}", value)
            binding.bind_ortvalue_output(f"present.{name}", value)
        self.session.run_with_iobinding(binding)
        logits: np.ndarray = binding.copy_outputs_to_cpu()[0]
        return logits[0, 0].copy()

    def prefill(self, rows: np.ndarray, *, chunk: int) -> np.ndarray:
        """Run all of `rows` in chunks and return the logits of the last row."""
        for start in range(0, len(rows), chunk):
            logits = self.run(rows[start : start + chunk])
        return logits
