"""Ctrl-C that ends a verb wherever it lands.

Python makes an exception of it, and an exception can get lost: Python itself drops it in destructors and in callbacks
of weak references, of which tracing a graph runs thousands; an extension module that is interrupted while it starts
prints a traceback of its own and raises an `ImportError`.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN_S = 0.05  # until the callback has certainly returned


class Interrupted(Exception):
    """Ctrl-C, once the verb has cleaned up; Typer would turn a `KeyboardInterrupt` into a silent exit.

    Its text, if it has one, says what may be done next.
    """


@contextmanager
def insistent_interrupts() -> Iterator[None]:
    """Inside, Ctrl-C becomes `Interrupted`, also if its exception was dropped or a library made another one of it."""
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    with _handled_by(note), _dropped_ones_again():
        try:
            yield
        except KeyboardInterrupt as interrupt:
            raise Interrupted(*interrupt.args) from interrupt
        except Exception as error:
            if came:
                raise Interrupted from error
            raise


@contextmanager
def held_interrupts() -> Iterator[None]:
    """Inside, Ctrl-C waits until the end: for imports of extension modules, which take it badly."""
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True

    with _handled_by(note):
        yield
    if came:
        raise KeyboardInterrupt


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle Ctrl-C by `handler`, but not where it is ignored, as in the background jobs of a shell."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _dropped_ones_again() -> Iterator[None]:
    """A `KeyboardInterrupt` that Python had to drop comes again a moment later."""
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
