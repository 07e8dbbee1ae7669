"""What `empty_gpu.py` runs over the stand-in for NVIDIA's driver; prints one JSON object."""

import ctypes
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from phiedge.bundle import Bundle
from phiedge.engines.backends import DEFAULT_BACKEND
from phiedge.engines.tensorrt import opening
from phiedge.engines.tensorrt.device_memory import LineCopy, NotRecordedError
from phiedge.engines.tensorrt.driver import this_gpu
from phiedge.engines.tensorrt.engine_thread import EngineThread
from phiedge.engines.tensorrt.pycuda_memory import PycudaMemory, load_pycuda
from phiedge.errors import DeviceError
from phiedge.runtime.session import Session

_KINDS = ("contexts", "allocations", "pinned", "streams", "events", "graphs", "launches", "copied_bytes")
_QUESTIONS = (("What is this?", 1), ("Hello", 0), ("What has changed?", 2))


def main() -> None:
    bundle, support = Path(sys.argv[1]), sys.argv[2]
    sys.path.insert(0, support)
    calls = _calls()
    with tempfile.TemporaryDirectory() as directory:
        shutil.copytree(bundle, Path(directory) / "bundle")
        sessions = _sessions(Bundle.open(Path(directory) / "bundle"))
    print(json.dumps({"pycuda": _version(), "calls": calls, "sessions": sessions}))


def _calls() -> dict[str, Any]:
    """Every call of `PycudaMemory`, held against NumPy, and what is left when its thread has ended."""
    thread = EngineThread(partial(PycudaMemory, this_gpu()))
    there = thread(partial(_exercise, thread.memory))
    during = _counts()
    del thread
    return {"right": there, "during": during, "left": {name: _counts()[name] for name in _KINDS[:6]}}


def _exercise(memory: Any) -> dict[str, bool]:
    rows, lines = memory.allocate(4096), memory.allocate(4096)
    source, target = memory.pinned(256), memory.pinned(256)
    source[:] = np.arange(256)
    memory.zero(lines, 4096)
    memory.to_device(rows, source)
    copy = LineCopy(source=rows, source_pitch_bytes=16, target=lines, target_pitch_bytes=32, line_bytes=8, lines=8)
    memory.copy_lines(copy)
    memory.to_host(target, lines)
    timer = memory.timer()
    timer.start()
    timer.stop()
    memory.synchronise()
    wanted = np.zeros((8, 32), np.uint8)
    wanted[:, :8] = np.arange(128).reshape(8, 16)[:, :8]
    graph = memory.record_graph(lambda: None)
    graph.launch()
    return {
        "copies": bool((target.reshape(8, 32) == wanted).all()),
        "timer": timer.elapsed_ns() == 1_000_000,
        "too much is refused": _raises(DeviceError, lambda: memory.allocate(6 << 30)),
        "a capture that fails is not recorded": _refused_capture(memory),
    }


def _refused_capture(memory: Any) -> bool:
    with _capture_is_refused():
        return _raises(NotRecordedError, lambda: memory.record_graph(lambda: None))


@contextmanager
def _capture_is_refused() -> Iterator[None]:
    name, libc = b"EMPTY_GPU_REFUSES_CAPTURE", ctypes.CDLL(None)
    libc.setenv(name, b"1", 1)
    try:
        yield
    finally:
        libc.unsetenv(name)


def _raises(kind: type[Exception], call: Any) -> bool:
    try:
        call()
    except kind:
        return True
    return False


def _sessions(bundle: Bundle) -> dict[str, Any]:
    """The same questions through pycuda and on ONNX Runtime alone, with graphs in the place of engines.

    The full TensorRT's step is not recorded, as a launch does nothing here.
    """
    from opened_engines import write_engines
    from recorded_device import RecordedMemory
    from tensorrt_runtime import library
    from tensorrt_surfaces import JETPACK_6, RTX

    RecordedMemory.of = staticmethod(lambda stream: _AtOnce())
    opening.require_driver = lambda _: this_gpu()
    warnings.simplefilter("ignore", RuntimeWarning)
    host, _ = _answers(bundle, DEFAULT_BACKEND)
    told = {}
    for release in (RTX, JETPACK_6):
        found = library(release)
        if found.capabilities.dialect not in bundle.manifest.dialects:
            continue
        write_engines(bundle, found, chunk=256)
        opening.load_library = lambda backend, found=found: found
        with _capture_is_refused():
            device, during = _answers(bundle, found.backend)
        told[release] = {
            "questions": len(_QUESTIONS),
            "same_answers": sum(one == other for one, other in zip(device, host, strict=True)),
            "during": during,
            "left": {name: _counts()[name] for name in _KINDS[:6]},
        }
    return told


class _AtOnce:
    """What the stand-in of TensorRT asks of a stream: bytes at an address, and work, which is done at once."""

    def at(self, address: int, size_bytes: int) -> np.ndarray:
        return np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(address))

    def enqueue(self, work: Any, **_: object) -> None:
        work()


def _answers(bundle: Bundle, backend: str) -> tuple[list[list[int]], dict[str, int]]:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (60, 80, 3), np.uint8) for _ in range(2)]
    with Session.open(bundle, threads=1, backend=backend) as session:
        answers = [
            list(session.generate(prompt, pictures[:count], max_new_tokens=8).token_ids) for prompt, count in _QUESTIONS
        ]
        return answers, _counts()


def _counts() -> dict[str, int]:
    values = (ctypes.c_longlong * len(_KINDS))()
    ctypes.CDLL("libcuda.so.1").empty_gpu_counts(values)
    return dict(zip(_KINDS, values, strict=True))


def _version() -> str:
    import pycuda

    load_pycuda()
    return str(pycuda.VERSION_TEXT)


if __name__ == "__main__":
    main()
