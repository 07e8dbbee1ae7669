"""Ends what runs at a moment of the clock, from a thread of its own: for a step that does not come back in time.

The thread starts with the first deadline and sleeps between them; arming and disarming costs a few microseconds, once
for each request. After `disarm` returns, nothing is stopped any more.
"""

import threading
from collections.abc import Callable

from phiedge.runtime.realtime import watch_over


class Watchdog:
    """Calls `stop` once when the clock has reached the moment that it was armed for."""

    def __init__(self, *, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._changed = threading.Condition()
        self._due_ns: int | None = None
        self._stop: Callable[[], None] | None = None
        self._fired = False
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def fired(self) -> bool:
        """Whether it has stopped something since it was armed last."""
        return self._fired

    def arm(self, due_ns: int, stop: Callable[[], None]) -> None:
        """Call `stop` at `due_ns`, from the watchdog's thread, unless it is disarmed before."""
        with self._changed:
            self._due_ns, self._stop, self._fired = due_ns, stop, False
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._watch, name="phiedge-watchdog", daemon=True)
                self._thread.start()
            self._changed.notify()

    def disarm(self) -> None:
        """Stop nothing any more."""
        with self._changed:
            self._due_ns = self._stop = None

    def close(self) -> None:
        """Disarm for good and let the thread end."""
        with self._changed:
            self._closed = True
            self._due_ns = self._stop = None
            self._changed.notify()

    def check(self) -> float | None:
        """Stop what is due. Returns the seconds until something will be, None if nothing is armed."""
        with self._changed:
            if self._due_ns is None or self._stop is None:
                return None
            left_ns = self._due_ns - self._clock_ns()
            if left_ns > 0:
                return left_ns / 1e9
            # Called with the lock held, so that no request which begins after `disarm` is stopped in place of this one.
            self._fired = True
            self._stop()
            self._due_ns = self._stop = None
            return None

    def _watch(self) -> None:
        watch_over()
        with self._changed:
            while not self._closed:
                self._changed.wait(self.check())
