"""Ctrl-C where Python would drop it."""

import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable

import pytest

from phiedge.cli.interrupts import Interrupted, held_interrupts, insistent_interrupts


class Thing:
    """Something to refer to."""


def wait() -> None:
    """For what comes again in a moment; a minute is for ever."""
    threading.Event().wait(60)


def drop(error: BaseException) -> None:
    """Raise `error` where Python drops it: in the callback of a weak reference."""

    def callback(_: object) -> None:
        raise error

    thing = Thing()
    reference = weakref.ref(thing, callback)
    del thing
    assert reference() is None


def test_an_interrupt_in_a_callback_comes_again() -> None:
    with pytest.raises(Interrupted), insistent_interrupts():
        drop(KeyboardInterrupt())
        wait()


def test_an_interrupt_comes_again_however_long_a_thread_takes_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    came = []

    class SlowTimer(threading.Timer):
        """It has waited, and signalled, before `start` returns: what that raises in the hook is dropped, too."""

        def start(self) -> None:
            if len(came) < 3:
                came.append(True)
                press_ctrl_c()
            super().start()

    monkeypatch.setattr(threading, "Timer", SlowTimer)
    with pytest.raises(Interrupted), insistent_interrupts():
        drop(KeyboardInterrupt())
        wait()
    assert len(came) == 3


def test_an_interrupt_that_gets_through_does_not_come_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[threading.Timer] = []

    class PatientTimer(threading.Timer):
        """It waits for ever."""

        def __init__(self, interval: float, function: Callable[[], None]) -> None:
            super().__init__(60, function)
            timers.append(self)

    monkeypatch.setattr(threading, "Timer", PatientTimer)
    with pytest.raises(Interrupted), insistent_interrupts():
        drop(KeyboardInterrupt())
        try:
            press_ctrl_c()
        finally:
            assert [timer.finished.is_set() for timer in timers] == [True], "cleaning up is not interrupted"


def test_other_dropped_errors_go_the_way_they_went_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_type))
    with insistent_interrupts():
        drop(ZeroDivisionError())
    drop(ValueError())
    assert told == [ZeroDivisionError, ValueError]


DROPPED_AT_THE_END = """
import time, weakref
from phiedge.cli.interrupts import insistent_interrupts

class Thing: ...

def callback(_):
    raise KeyboardInterrupt

thing = Thing()
reference = weakref.ref(thing, callback)
with insistent_interrupts():
    del thing
print("done")
"""


def test_what_was_done_before_it_came_again_stays_done() -> None:
    finished = subprocess.run([sys.executable, "-c", DROPPED_AT_THE_END], capture_output=True, text=True)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "done\n", "")


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def test_an_error_that_a_library_makes_of_an_interrupt_counts_as_one() -> None:
    with pytest.raises(Interrupted), insistent_interrupts():
        try:
            press_ctrl_c()
        except KeyboardInterrupt:
            raise ImportError("import numpy failed") from None


def test_an_error_without_an_interrupt_stays_what_it_is() -> None:
    with pytest.raises(ImportError), insistent_interrupts():
        raise ImportError("import numpy failed")


def test_a_held_interrupt_waits_until_the_end() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt):
        with held_interrupts():
            press_ctrl_c()
            reached = True
    assert reached


def test_the_way_interrupts_went_before_is_restored() -> None:
    before = signal.getsignal(signal.SIGINT)
    with insistent_interrupts(), held_interrupts():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_stays_ignored_where_it_is_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with insistent_interrupts(), held_interrupts():
            press_ctrl_c()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_thread_that_may_not_handle_signals_runs_all_the_same() -> None:
    done = []

    def work() -> None:
        with insistent_interrupts(), held_interrupts():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
