"""The newest frame of a source that does not wait: a camera is faster than an answer, and old frames answer nothing.

    with LatestFrame(camera) as frames:
        for frame in frames:
            session.generate("Is the door open?", images=[frame.picture])

A thread of its own reads the source as fast as it gives frames and keeps only the last one. What was replaced before
anybody took it is dropped and counted. Frames may change their size; a picture is a picture.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType

from phiedge.errors import InputError, UsageError
from phiedge.runtime.images import ImageSource

DEFAULT_STALL_MS = 5000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A picture, its number in the source from 0 on, and when it came, on the clock of `time.perf_counter_ns`."""

    picture: ImageSource
    number: int
    came_ns: int

    def age_ms(self) -> float:
        """How long ago it came."""
        return (time.perf_counter_ns() - self.came_ns) / 1e6


class LatestFrame:
    """Gives the newest frame of `source`, each at most once; waits for one if there is none that is new.

    A source that gives nothing for `stall_ms` is an `InputError`; what a source raises is raised where its next frame
    was asked for, after the last frame that came whole. Iterating ends where the source ends, or when this is closed.
    """

    def __init__(self, source: Iterable[ImageSource], *, stall_ms: float = DEFAULT_STALL_MS) -> None:
        if not 0 < stall_ms < threading.TIMEOUT_MAX * 1000:
            raise UsageError(f"stall_ms must be a positive number, not {stall_ms}", remedy="give milliseconds")
        self._source, self._stall_ms = source, stall_ms
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._came = self._taken = 0
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="phiedge-camera", daemon=True)

    @property
    def dropped(self) -> int:
        """How many frames came and were replaced by newer ones before they were taken."""
        with self._changed:
            return self._came - self._taken - (self._newest is not None)

    @property
    def came(self) -> int:
        """How many frames came."""
        with self._changed:
            return self._came

    def __enter__(self) -> "LatestFrame":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.take()) is not None:
            yield frame

    def close(self) -> None:
        """Read no more, and let go of whoever waits. A source that hangs keeps its thread until it comes back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self) -> Frame | None:
        """The newest frame that nobody took yet; waits for it. None at the end. Raises what the source raised."""
        with self._changed:
            if not self._changed.wait_for(self._something, self._stall_ms / 1000):
                raise InputError(
                    f"the source of frames gave none for {self._stall_ms:g} ms, after {self._came} frames",
                    remedy="check the camera, or give a longer stall_ms",
                )
            if self._closed:
                return None
            frame, self._newest = self._newest, None
            if frame is not None:
                self._taken += 1
            elif self._error is not None:
                raise self._error
            return frame

    def _something(self) -> bool:
        return self._newest is not None or self._ended or self._closed

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            for picture in self._source:
                if not self._keep(picture):
                    break
        except BaseException as raised:  # of whatever kind: it belongs to whoever takes frames, not to this thread
            error = raised
        finally:
            self._close_source()
            with self._changed:
                self._error, self._ended = error, True
                self._changed.notify_all()

    def _keep(self, picture: ImageSource) -> bool:
        with self._changed:
            if self._closed:
                return False
            self._newest = Frame(picture=picture, number=self._came, came_ns=time.perf_counter_ns())
            self._came += 1
            self._changed.notify_all()
            return True

    def _close_source(self) -> None:
        """A generator is told that nobody reads on, in the thread that has read it."""
        close: Callable[[], None] | None = getattr(self._source, "close", None)
        if close is not None:
            close()
