"""`DeviceMemory` on a real GPU, with pycuda.

pycuda is imported when it is opened: importing it needs NVIDIA's driver. It uses the primary context, which is the one
that TensorRT uses. pycuda keeps a stack of contexts for every thread, ends the process when a thread ends with one on
it, and frees what belongs to a context on the thread that made it only. So everything here is made, used and freed on
one thread (`engine_thread.py`), the context is on the stack only while something runs (`current`), and what goes out
of the engine is never memory of pycuda's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import numpy as np

from phiedge.devices.memory_limits import available_memory
from phiedge.engines.interface import Array
from phiedge.engines.tensorrt.device_memory import ALIGNMENT_BYTES, DeviceGraph, LineCopy
from phiedge.engines.tensorrt.driver import Gpu, open_driver
from phiedge.engines.tensorrt.driver_graph import DriverGraph
from phiedge.errors import DeviceError, MissingExtraError, SessionError

EXTRA = "cuda"
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: the stream does not wait for work on CUDA's default stream
_NS_PER_MS = 1e6


class PycudaMemory:
    """Memory and one stream of the first GPU; made on the thread that will use it. `gpu` is what the driver told."""

    def __init__(self, gpu: Gpu, *, driver: Any = None) -> None:
        self._cuda = cuda = load_pycuda()
        self._gpu = gpu
        self._driver = open_driver() if driver is None else driver
        self.errors: tuple[type[Exception], ...] = (cuda.Error,)
        cuda.init()
        self._primary = cuda.Device(0).retain_primary_context()
        self._allocations: list[Any] = []
        self._pinned: list[Any] = []
        self._graphs: list[DriverGraph] = []
        self._timers: list[EventTimer] = []
        with self.current():
            self._stream = cuda.Stream(_NON_BLOCKING)

    @property
    def stream(self) -> int:
        return int(self._stream.handle)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Put the context on this thread's stack, for as long as the block runs."""
        self._primary.push()
        try:
            yield
        finally:
            self._cuda.Context.pop()

    def free_bytes(self) -> int:
        """What CUDA calls free; of a GPU without memory of its own, what the machine could make free, too."""
        free_bytes, _ = self._cuda.mem_get_info()
        limit = available_memory() if self._gpu.integrated else None
        return int(free_bytes) if limit is None else max(int(free_bytes), limit.bytes)

    def allocate(self, size_bytes: int) -> int:
        """Raises `DeviceError` where the device has too little."""
        try:
            allocation = self._cuda.mem_alloc(size_bytes)
        except self._cuda.MemoryError as error:
            raise DeviceError(
                f"{self._gpu.name} refuses {size_bytes / 1e9:.2f} GB; {self.free_bytes() / 1e9:.2f} GB are free",
                remedy="free memory of the GPU, or export the bundle with a smaller --max-context",
            ) from error
        self._allocations.append(allocation)
        address = int(allocation)
        assert address % ALIGNMENT_BYTES == 0
        return address

    def zero(self, address: int, size_bytes: int) -> None:
        self._cuda.memset_d8_async(address, 0, size_bytes, self._stream)

    def pinned(self, size_bytes: int) -> Array:
        array: Array = self._cuda.pagelocked_empty((size_bytes,), np.uint8)
        array.fill(0)
        self._pinned.append(array)
        return array

    def to_device(self, address: int, source: Array) -> None:
        self._cuda.memcpy_htod_async(address, source, self._stream)

    def to_host(self, target: Array, address: int) -> None:
        self._cuda.memcpy_dtoh_async(target, address, self._stream)

    def copy_lines(self, copy: LineCopy) -> None:
        call = self._cuda.Memcpy2D()
        call.set_src_device(copy.source)
        call.src_pitch = copy.source_pitch_bytes
        call.set_dst_device(copy.target)
        call.dst_pitch = copy.target_pitch_bytes
        call.width_in_bytes = copy.line_bytes
        call.height = copy.lines
        call(self._stream)

    def timer(self) -> "EventTimer":
        timer = EventTimer(self._cuda, self._stream)
        self._timers.append(timer)
        return timer

    def record_graph(self, enqueue: Callable[[], None]) -> DeviceGraph:
        graph = DriverGraph(self._driver, self.stream, enqueue)
        self._graphs.append(graph)
        return graph

    def synchronise(self) -> None:
        self._stream.synchronize()

    def close(self) -> None:
        """Free everything, newest first, and let go of the context."""
        with self.current():
            with suppress(self._cuda.Error):  # of a device that has failed; whoever ran something has been told
                self.synchronise()
            for closing in (self._graphs, self._timers):
                while closing:
                    closing.pop().close()
            while self._allocations:
                self._allocations.pop().free()
            while self._pinned:
                self._pinned.pop().base.free()
            del self._stream
        self._primary.detach()


class EventTimer:
    """Two events of a stream."""

    def __init__(self, cuda: Any, stream: Any) -> None:
        self._stream = stream
        self._start, self._stop = cuda.Event(), cuda.Event()

    def start(self) -> None:
        self._start.record(self._stream)

    def stop(self) -> None:
        self._stop.record(self._stream)

    def close(self) -> None:
        """Let go of the events and the stream: pycuda gives them back when nobody refers to them."""
        del self._start, self._stop, self._stream

    def elapsed_ns(self) -> int:
        return round(float(self._stop.time_since(self._start)) * _NS_PER_MS)


def load_pycuda() -> Any:
    """`pycuda.driver`. Raises `MissingExtraError` without pycuda, `SessionError` where it cannot be loaded."""
    try:
        return import_module("pycuda.driver")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            what="computing with TensorRT",
            extra=EXTRA,
            missing=error.name,
            otherwise="pip builds it from source, which needs a compiler and CUDA's toolkit (nvcc on the PATH)",
        ) from error
    except ImportError as error:
        raise SessionError(
            f"pycuda is installed and cannot be loaded: {error}",
            remedy="install NVIDIA's driver; where there is one, build pycuda again for its CUDA: "
            "pip install --no-binary pycuda --force-reinstall pycuda",
        ) from error
