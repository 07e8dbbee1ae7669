"""A GPU of host memory for tests: what is asked of it is recorded, done late, and held to the rules of a real one.

Nothing that is enqueued happens before `synchronise`, so that whoever reads too early finds old numbers, and whoever
writes over pinned memory too early copies wrong ones. New memory is full of NaNs. Everything must be called on the
thread that opened it, inside `current()`; copies must stay inside of one allocation.
"""

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from phiedge.engines.tensorrt.device_memory import ALIGNMENT_BYTES, LineCopy, NotRecordedError
from phiedge.engines.tensorrt.driver import Gpu

GPU = Gpu(name="Stand-in", sm=89, integrated=False, memory_bytes=8 << 30, cuda=(13, 0))
_OPEN: dict[int, "RecordedMemory"] = {}


class DeviceFailure(Exception):
    """What the library behind this memory raises."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call: "to_device", "to_host", "lines", "zero", "execute", "launch", "allocate", "pinned" ..."""

    kind: str
    size_bytes: int = 0
    name: str = ""


class RecordedMemory:
    """`DeviceMemory` on the host. `calls` has everything in the order in which it was asked for."""

    errors: tuple[type[Exception], ...] = (DeviceFailure,)

    def __init__(self, gpu: Gpu = GPU, *, free_bytes: int = 4 << 30, captures: bool = True) -> None:
        self.calls: list[Call] = []
        self.closed = False
        self.stream = 1 + len(_OPEN) + 0x1000
        self._free_bytes, self._captures = free_bytes, captures
        self._thread, self._depth = threading.get_ident(), 0
        self._blocks: list[tuple[int, np.ndarray]] = []
        self._staging: list[np.ndarray] = []
        self._queue: list[Callable[[], None]] = []
        self._recording: list[Callable[[], None]] | None = None
        _OPEN[self.stream] = self

    @staticmethod
    def of(stream: int) -> "RecordedMemory":
        """The memory whose stream this is."""
        return _OPEN[stream]

    def named(self, kind: str) -> list[Call]:
        """The calls of one kind."""
        return [call for call in self.calls if call.kind == kind]

    @contextmanager
    def current(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def free_bytes(self) -> int:
        self._check_usable()
        return self._free_bytes

    def allocate(self, size_bytes: int) -> int:
        self._take("allocate", size_bytes)
        assert size_bytes > 0
        if size_bytes > self._free_bytes:
            raise DeviceFailure("out of memory")
        self._free_bytes -= size_bytes
        raw = np.full(size_bytes + 2 * ALIGNMENT_BYTES, 0xFF, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT_BYTES
        block = raw[start : start + size_bytes]
        self._blocks.append((block.ctypes.data, block))
        return int(block.ctypes.data)

    def zero(self, address: int, size_bytes: int) -> None:
        self._take("zero", size_bytes)
        self.enqueue(lambda: self.at(address, size_bytes).fill(0))

    def pinned(self, size_bytes: int) -> np.ndarray:
        self._take("pinned", size_bytes)
        array = np.zeros(size_bytes, np.uint8)
        self._staging.append(array)
        return array

    def to_device(self, address: int, source: np.ndarray) -> None:
        self._take("to_device", source.nbytes)
        self._check_pinned(source)
        source = source.view(np.uint8)
        self.enqueue(lambda: np.copyto(self.at(address, source.size), source))

    def to_host(self, target: np.ndarray, address: int) -> None:
        self._take("to_host", target.nbytes)
        self._check_pinned(target)
        target = target.view(np.uint8)
        self.enqueue(lambda: np.copyto(target, self.at(address, target.size)))

    def copy_lines(self, copy: LineCopy) -> None:
        self._take("lines", copy.lines * copy.line_bytes)

        def copied() -> None:
            for line in range(copy.lines):
                target = self.at(copy.target + line * copy.target_pitch_bytes, copy.line_bytes)
                target[:] = self.at(copy.source + line * copy.source_pitch_bytes, copy.line_bytes)

        self.enqueue(copied)

    def timer(self) -> "RecordedTimer":
        self._check_usable()
        return RecordedTimer(self)

    def record_graph(self, enqueue: Callable[[], None]) -> "RecordedGraph":
        self._take("record")
        self._recording = []
        try:
            enqueue()
        finally:
            recorded, self._recording = self._recording, None
        if not self._captures:
            raise NotRecordedError("cuStreamEndCapture answered CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")
        return RecordedGraph(self, recorded)

    def synchronise(self) -> None:
        self._take("synchronise")
        assert self._recording is None, "a stream cannot be waited for while it is recorded"
        queue, self._queue = self._queue, []
        for work in queue:
            work()

    def close(self) -> None:
        assert self._depth == 0
        assert not self.closed
        self._check_thread()
        self.closed = True
        del _OPEN[self.stream]
        self._blocks.clear()

    def enqueue(self, work: Callable[[], None], *, kind: str | None = None, name: str = "") -> None:
        """Do `work` when the stream comes to it, or record it."""
        if kind is not None:
            self._take(kind, name=name)
        (self._queue if self._recording is None else self._recording).append(work)

    def at(self, address: int, size_bytes: int) -> np.ndarray:
        """The bytes at an address, which lie in one allocation."""
        assert any(start <= address and address + size_bytes <= start + block.size for start, block in self._blocks), (
            f"{size_bytes} bytes at {address:#x} were not allocated"
        )
        return np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(address))

    def _take(self, kind: str, size_bytes: int = 0, name: str = "") -> None:
        self._check_usable()
        self.calls.append(Call(kind=kind, size_bytes=size_bytes, name=name))

    def _check_usable(self) -> None:
        self._check_thread()
        assert self._depth > 0, "no context is current"
        assert not self.closed

    def _check_thread(self) -> None:
        assert threading.get_ident() == self._thread, "called on another thread"

    def _check_pinned(self, array: np.ndarray) -> None:
        assert array.flags.c_contiguous
        assert any(np.shares_memory(array, staging) for staging in self._staging), "memory of the host is not pinned"


class RecordedGraph:
    """Work that is enqueued again by each launch."""

    def __init__(self, memory: RecordedMemory, recorded: list[Callable[[], None]]) -> None:
        self._memory, self._recorded = memory, recorded

    def launch(self) -> None:
        self._memory.enqueue(lambda: [work() for work in self._recorded] and None, kind="launch")


class RecordedTimer:
    """A timer whose every run takes a millisecond."""

    def __init__(self, memory: RecordedMemory) -> None:
        self._memory, self._running, self._measured = memory, False, False

    def start(self) -> None:
        self._measured = False
        self._memory.enqueue(lambda: setattr(self, "_running", True))

    def stop(self) -> None:
        def stopped() -> None:
            assert self._running
            self._measured = True

        self._memory.enqueue(stopped)

    def elapsed_ns(self) -> int:
        assert self._measured, "read before the stream came to its end"
        return 1_000_000
