"""A `pycuda.driver` of host memory, with pycuda's rules: a stack of contexts for each thread, freeing on one thread.

It has the names and the arguments that pycuda 2026.1 has and no others, as they were recorded from it.
"""

import ctypes
import threading
from types import ModuleType
from typing import Any

import numpy as np


class CudaError(Exception):
    """pycuda's base class."""


class CudaMemoryError(CudaError):
    """Too little memory."""


class Freed:
    """What is made and freed; `live` counts what is there by kind."""

    def __init__(self, driver: "FakeDriver", kind: str) -> None:
        self._driver, self._kind, self._freed = driver, kind, False
        driver.require_context()
        driver.live[kind] = driver.live.get(kind, 0) + 1

    def free(self) -> None:
        assert not self._freed
        self._driver.require_context()
        self._freed = True
        self._driver.live[self._kind] -= 1


class DeviceAllocation(Freed):
    def __init__(self, driver: "FakeDriver", size_bytes: int) -> None:
        super().__init__(driver, "memory")
        raw = np.zeros(size_bytes + 512, np.uint8)
        self._block = raw[-raw.ctypes.data % 512 :]

    def __int__(self) -> int:
        return int(self._block.ctypes.data)


class PagelockedHostAllocation(Freed):
    """What owns the memory of a pinned array."""


class FakeDriver:
    """`module` is what is put in the place of pycuda.driver."""

    def __init__(self, *, free_bytes: int = 1 << 20) -> None:
        self.free_bytes = free_bytes
        self.live: dict[str, int] = {}
        self.stacks: dict[int, list[object]] = {}
        self.module: Any = ModuleType("pycuda.driver")
        vars(self.module).update(
            Error=CudaError,
            MemoryError=CudaMemoryError,
            init=lambda flags=0: None,
            Device=lambda ordinal: self,
            Context=self,
            Stream=self._stream,
            Event=self._event,
            Memcpy2D=lambda: Memcpy2D(self),
            mem_get_info=self._mem_get_info,
            mem_alloc=self._mem_alloc,
            memset_d8_async=self._memset,
            pagelocked_empty=self._pagelocked,
            memcpy_htod_async=self._htod,
            memcpy_dtoh_async=self._dtoh,
        )

    @property
    def stack(self) -> list[object]:
        """The contexts of this thread."""
        return self.stacks.setdefault(threading.get_ident(), [])

    def require_context(self) -> None:
        if not self.stack:
            raise CudaError("invalid device context")

    # Device and Context
    def retain_primary_context(self) -> "FakeDriver":
        self.live["context"] = self.live.get("context", 0) + 1
        return self

    def push(self) -> None:
        self.stack.append(self)

    def pop(self) -> None:
        self.stack.pop()

    def detach(self) -> None:
        assert not self.stack, "a context that is current"
        self.live["context"] -= 1

    # the rest of the module
    def _stream(self, flags: int = 0) -> "Stream":
        return Stream(self, flags)

    def _event(self, flags: int = 0) -> "Event":
        return Event(self)

    def _mem_get_info(self) -> tuple[int, int]:
        self.require_context()
        return self.free_bytes, 1 << 30

    def _mem_alloc(self, size: int) -> DeviceAllocation:
        if size > self.free_bytes:
            raise CudaMemoryError("cuMemAlloc failed: out of memory")
        return DeviceAllocation(self, size)

    def _pagelocked(self, shape: tuple[int, ...], dtype: type, order: str = "C", mem_flags: int = 0) -> np.ndarray:
        allocation = PagelockedHostAllocation(self, "pinned")
        return np.empty(shape, dtype).view(_Owned).owned_by(allocation)

    def _memset(self, dest: int, data: int, size: int, stream: "Stream") -> None:
        _bytes(dest, size)[:] = data

    def _htod(self, dest: int, src: np.ndarray, stream: "Stream") -> None:
        self.require_context()
        _bytes(dest, src.nbytes)[:] = src.view(np.uint8).ravel()

    def _dtoh(self, dest: np.ndarray, src: int, stream: "Stream") -> None:
        self.require_context()
        dest.view(np.uint8).ravel()[:] = _bytes(src, dest.nbytes)


class _Owned(np.ndarray):
    """An array whose `base` is its allocation, as NumPy gives it for memory that another library owns."""

    def owned_by(self, allocation: PagelockedHostAllocation) -> "_Owned":
        self._allocation = allocation
        return self

    @property
    def base(self) -> Any:
        return getattr(self, "_allocation", None)


class Collected:
    """What is freed when nobody refers to it, but only where a context is current; otherwise it is there for ever."""

    def __init__(self, driver: FakeDriver, kind: str) -> None:
        self._driver, self._kind = driver, kind
        driver.require_context()
        driver.live[kind] = driver.live.get(kind, 0) + 1

    def __del__(self) -> None:
        if self._driver.stack:
            self._driver.live[self._kind] -= 1


class Stream(Collected):
    def __init__(self, driver: FakeDriver, flags: int) -> None:
        super().__init__(driver, "stream")
        self.handle, self.flags, self.waited = 77, flags, 0

    def synchronize(self) -> None:
        self.waited += 1


class Event(Collected):
    def __init__(self, driver: FakeDriver) -> None:
        super().__init__(driver, "event")
        self.stream: Stream | None = None

    def record(self, stream: Stream) -> "Event":
        self.stream = stream
        return self

    def time_since(self, start: "Event") -> float:
        assert self.stream is start.stream is not None
        return 2.5


class Memcpy2D:
    __slots__ = ("_driver", "_dst", "_src", "dst_pitch", "height", "src_pitch", "width_in_bytes")

    def __init__(self, driver: FakeDriver) -> None:
        self._driver = driver

    def set_src_device(self, devptr: int) -> None:
        self._src = devptr

    def set_dst_device(self, devptr: int) -> None:
        self._dst = devptr

    def __call__(self, stream: Stream) -> None:
        self._driver.require_context()
        for line in range(self.height):
            target = _bytes(self._dst + line * self.dst_pitch, self.width_in_bytes)
            target[:] = _bytes(self._src + line * self.src_pitch, self.width_in_bytes)


def _bytes(address: int, size_bytes: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(address))
