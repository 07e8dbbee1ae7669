"""What `empty_driver.py` runs where the stand-ins are in the place of CUDA's libraries; prints one JSON object."""

import ctypes
import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import summary
from phiedge.bundle import Bundle
from phiedge.engines.backends import GPU_BACKEND, open_engines
from phiedge.engines.interface import Engines
from phiedge.engines.onnxruntime.graph_run import session_options
from phiedge.engines.onnxruntime.library import ort
from phiedge.engines.onnxruntime.provider import cuda

_COUNTS = ("kernels_launched", "recordings", "kernels_recorded", "replays", "forbidden_while_recording")
_CAPACITY, _STEPS = 512, 500


def main() -> None:
    bundle = Bundle.open(Path(sys.argv[1]))
    engines = open_engines(bundle, backend=GPU_BACKEND, threads=1, capacity=_CAPACITY)  # preloads CUDA's libraries
    opened = _counts()
    print(json.dumps({"opening": opened, **_run(engines), "placement": _placement(bundle)}))


def _run(engines: Engines) -> dict[str, Any]:
    """A prompt of two chunks, then steps, then a step of another thread: what each of them asked the driver for."""
    decoder = engines.decoder
    rows = np.zeros((128, decoder.row.size), decoder.input_dtype)
    before, spent_us = _counts(), list[float]()
    for past in (0, 128):
        decoder.prefill(rows, past=past)
    chunks, before = _since(before), _counts()
    for step in range(_STEPS):
        begun_ns = time.perf_counter_ns()
        decoder.step(past=256 + step % 200)
        spent_us.append((time.perf_counter_ns() - begun_ns) / 1000)
    steps = _since(before)
    before = _counts()
    other = threading.Thread(target=decoder.step, kwargs={"past": 300})
    other.start()
    other.join()
    return {
        "chunks": chunks,
        "steps": steps,
        "step_of_another_thread": _since(before),
        "step_host_us": summary(spent_us),
    }


def _placement(bundle: Bundle) -> dict[str, dict[str, dict[str, int]]]:
    """Graph to provider to operator to how many of its nodes that provider took."""
    dialect, found = bundle.manifest.dialects["ort"], {}
    for name, file, captures in (("vision", dialect.vision, False), ("decoder", dialect.decoder, True)):
        provider = cuda(captures=captures)
        config = dict(provider.session_config) | {"session.record_ep_graph_assignment_info": "1"}
        session = ort.InferenceSession(
            str(bundle.file(file)), session_options(1, config), providers=[(provider.name, dict(provider.options))]
        )
        nodes: dict[str, Counter[str]] = {}
        for part in session.get_provider_graph_assignment_info():
            nodes.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
        found[name] = {provider_name: dict(sorted(count.items())) for provider_name, count in nodes.items()}
    return found


def _counts() -> dict[str, int]:
    values = (ctypes.c_ulong * len(_COUNTS))()
    ctypes.CDLL(f"libcudart.so.{str(ort.cuda_version).partition('.')[0]}").empty_driver_counts(values)
    return dict(zip(_COUNTS, values, strict=True))


def _since(before: dict[str, int]) -> dict[str, int]:
    return {name: count - before[name] for name, count in _counts().items() if name != "kernels_recorded"}


if __name__ == "__main__":
    main()
