"""Ctrl-C where Python would drop it."""

import signal
import subprocess
import sys
import weakref

import pytest

from phiedge.cli.interrupts import insistent_interrupts


class Thing:
    """Something to refer to."""


def wait_for_ever() -> None:
    signal.pause()


def drop(error: BaseException) -> None:
    """Raise `error` where Python drops it: in the callback of a weak reference."""

    def callback(_: object) -> None:
        raise error

    thing = Thing()
    reference = weakref.ref(thing, callback)
    del thing
    assert reference() is None


def test_an_interrupt_in_a_callback_comes_again() -> None:
    with pytest.raises(KeyboardInterrupt), insistent_interrupts():
        drop(KeyboardInterrupt())
        wait_for_ever()


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
