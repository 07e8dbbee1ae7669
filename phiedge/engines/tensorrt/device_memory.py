"""What the TensorRT backend asks of a GPU beside running an engine: memory, copies, time, and recording.

A `DeviceMemory` is memory of one GPU with one stream, along which everything happens in order. Addresses are plain
integers, as TensorRT takes them. Nothing here computes, and nothing knows of engines. On a real GPU it is
`pycuda_memory.py`; tests put memory of the host in its place.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from phiedge.engines.interface import Array

ALIGNMENT_BYTES = 256  # what TensorRT asks of every address that it is given


class NotRecordedError(Exception):
    """What was enqueued could not be recorded; nothing of it has run. Internal: the caller goes on without."""


class DeviceGraph(Protocol):
    """Work that was recorded once, to be done again with the same addresses."""

    def launch(self) -> None:
        """Enqueue all of it by one call."""
        ...


class DeviceTimer(Protocol):
    """How long the device took between two places of its stream."""

    def start(self) -> None:
        """The first place: after all that has been enqueued."""
        ...

    def stop(self) -> None:
        """The second place."""
        ...

    def elapsed_ns(self) -> int:
        """From the first to the second, once `synchronise` has returned."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LineCopy:
    """Lines of `line_bytes` each, one every `pitch` bytes at the source and at the target; all on the device."""

    source: int
    source_pitch_bytes: int
    target: int
    target_pitch_bytes: int
    line_bytes: int
    lines: int

    def __post_init__(self) -> None:
        assert 0 < self.line_bytes <= min(self.source_pitch_bytes, self.target_pitch_bytes)
        assert self.lines > 0


class DeviceMemory(Protocol):
    """Memory and the stream of one GPU. Everything is called on the thread that opened it, inside `current()`.

    Copies and zeroing are enqueued: what they read must stay as it is, and what they write is there, only after
    `synchronise`. The library behind it raises `errors`.
    """

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What the library raises, or reports of the past, at any call."""
        ...

    @property
    def stream(self) -> int:
        """The stream's handle, for TensorRT."""
        ...

    def current(self) -> AbstractContextManager[None]:
        """Make the GPU the one that this thread computes on, for as long as the block runs."""
        ...

    def free_bytes(self) -> int:
        """How much memory may still be taken."""
        ...

    def allocate(self, size_bytes: int) -> int:
        """The address of new memory, a multiple of `ALIGNMENT_BYTES`; it lives until `close`."""
        ...

    def zero(self, address: int, size_bytes: int) -> None:
        """Enqueue zeros."""
        ...

    def pinned(self, size_bytes: int) -> Array:
        """New zeros of the host, uint8 [size_bytes], which the device reads and writes directly, until `close`.

        Nobody outside of the engine may keep a view of it.
        """
        ...

    def to_device(self, address: int, source: Array) -> None:
        """Enqueue a copy from `pinned` memory."""
        ...

    def to_host(self, target: Array, address: int) -> None:
        """Enqueue a copy into `pinned` memory."""
        ...

    def copy_lines(self, copy: LineCopy) -> None:
        """Enqueue a copy of lines from the device to the device."""
        ...

    def timer(self) -> DeviceTimer:
        """A new timer of the stream."""
        ...

    def record_graph(self, enqueue: Callable[[], None]) -> DeviceGraph:
        """Record what `enqueue` enqueues, without doing it. Raises `NotRecordedError`."""
        ...

    def synchronise(self) -> None:
        """Wait until all that was enqueued is done."""
        ...

    def close(self) -> None:
        """Free everything. Nothing may be called afterwards, and no address used; call it outside `current()`."""
        ...


def aligned(size_bytes: int) -> int:
    """The next multiple of `ALIGNMENT_BYTES`."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
