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

_AGAIN_S = 0.05  # until what dropped it has probably returned


class Interrupted(Exception):
    """Ctrl-C, once the verb has cleaned up; Typer would turn a `KeyboardInterrupt` into a silent exit.

    Its text, if it has one, says what may be done next.
    """


@contextmanager
def insistent_interrupts() -> Iterator[None]:
    """Inside, Ctrl-C becomes `Interrupted`, also if its exception was dropped or a library made another one of it."""
    interrupts = _Insistent()
    try:
        with _handled_by(interrupts.note), interrupts.coming_again():
            yield
    except KeyboardInterrupt as interrupt:
        raise Interrupted(*interrupt.args) from interrupt
    except Exception as error:
        if interrupts.came:
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


class _Insistent:
    """A `KeyboardInterrupt` that Python had to drop comes again a moment later, and again until one is not dropped."""

    def __init__(self) -> None:
        self.came = False
        self._before = sys.unraisablehook
        self._left = False
        self._sending = threading.Lock()
        self._timers: list[threading.Timer] = []

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGINT."""
        self.came = True
        if self._left:
            return
        if self._is_dropping(frame):  # what is raised there is dropped without a word
            self._send_again()
            return
        self._forget()
        raise KeyboardInterrupt

    @contextmanager
    def coming_again(self) -> Iterator[None]:
        """Inside, what is dropped comes again; behind it, what came too late is over."""
        sys.unraisablehook = self._hook
        try:
            yield
        finally:
            self._left = True
            with self._sending:  # a signal that is on its way is still ours
                sys.unraisablehook = self._before
            self._forget()

    def _hook(self, dropped: "sys.UnraisableHookArgs") -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            self._send_again()
        else:
            self._before(dropped)

    def _is_dropping(self, frame: FrameType | None) -> bool:
        """Whether `frame` runs for the hook: a thread that starts on a busy machine takes longer than it waits."""
        while frame is not None and frame.f_code is not _Insistent._hook.__code__:
            frame = frame.f_back
        return frame is not None

    def _send_again(self) -> None:
        timer = threading.Timer(_AGAIN_S, self._send)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _forget(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _send(self) -> None:
        with self._sending:
            if not self._left:
                main = threading.main_thread().ident
                assert main is not None
                signal.pthread_kill(main, signal.SIGINT)
