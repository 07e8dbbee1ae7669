"""Ctrl-C that is not lost on its way.

Python drops any exception that comes up in a destructor or in the callback of a weak reference, with a traceback on
stderr, and goes on. Tracing a graph runs thousands of them, and an export that was interrupted there would end well.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_AGAIN_S = 0.05  # until the callback has certainly returned


class Interrupted(Exception):
    """Ctrl-C, once the verb has cleaned up; Typer would turn a `KeyboardInterrupt` into a silent exit."""


@contextmanager
def insistent_interrupts() -> Iterator[None]:
    """Inside, a `KeyboardInterrupt` that Python had to drop comes again a moment later."""
    before = sys.unraisablehook
    again: list[threading.Timer] = []

    def hook(dropped: "sys.UnraisableHookArgs") -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            before(dropped)
            return
        timer = threading.Timer(_AGAIN_S, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        timer.daemon = True
        again.append(timer)
        timer.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in again:
            timer.cancel()
