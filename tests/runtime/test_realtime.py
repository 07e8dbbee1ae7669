import errno
import os
from collections.abc import Sequence

import pytest

from phiedge.errors import UsageError
from phiedge.runtime.realtime import RealtimePolicy, System, apply

EVERYTHING = RealtimePolicy(cpus=(1, 2), fifo_priority=10, lock_memory=True, freeze_garbage=True)


class Recorded(System):
    """Does nothing, and says no where it was told to."""

    def __init__(self, no: dict[str, Exception] | None = None, throttle: tuple[int, int] | None = None) -> None:
        self.calls: list[tuple[object, ...]] = []
        self._no, self._throttle = no or {}, throttle

    def threads(self) -> list[int]:
        return [7, 8]

    def set_affinity(self, thread: int, cpus: Sequence[int]) -> None:
        self._call("affinity", thread, tuple(cpus))

    def set_fifo(self, thread: int, priority: int) -> None:
        self._call("fifo", thread, priority)

    def lock_memory(self) -> None:
        self._call("lock")

    def freeze_garbage(self) -> int:
        self._call("freeze")
        return 5

    def throttle_us(self) -> tuple[int, int] | None:
        return self._throttle

    def _call(self, name: str, *arguments: object) -> None:
        if name in self._no:
            raise self._no[name]
        self.calls.append((name, *arguments))


def test_nothing_is_done_that_was_not_asked_for() -> None:
    system = Recorded()
    assert apply(RealtimePolicy(), system=system) == ()
    assert system.calls == []


def test_every_wish_is_done_for_every_thread_and_reported() -> None:
    system = Recorded(throttle=(950_000, 1_000_000))
    reports = apply(EVERYTHING, system=system)
    assert [(report.wish, report.status) for report in reports] == [
        (wish, "applied") for wish in ("cpus", "fifo_priority", "lock_memory", "freeze_garbage")
    ]
    assert system.calls == [
        ("affinity", 7, (1, 2)), ("affinity", 8, (1, 2)), ("fifo", 7, 10), ("fifo", 8, 10), ("lock",), ("freeze",),
    ]  # fmt: skip
    assert "after 950 of every 1000 ms of work the system stops them" in reports[1].detail


def test_what_the_system_refuses_is_told_with_what_it_takes_and_the_rest_is_done() -> None:
    system = Recorded({"fifo": PermissionError(errno.EPERM, "Operation not permitted"), "lock": OSError(12, "No room")})
    reports = {report.wish: report for report in apply(EVERYTHING, system=system)}
    assert reports["fifo_priority"].status == reports["lock_memory"].status == "refused"
    assert "operation not permitted; it takes the capability SYS_NICE" in reports["fifo_priority"].detail
    assert "IPC_LOCK" in reports["lock_memory"].detail
    assert reports["freeze_garbage"].status == "applied"


def test_what_a_system_does_not_have_is_unavailable() -> None:
    (report,) = apply(RealtimePolicy(cpus=(0,)), system=Recorded({"affinity": AttributeError("sched_setaffinity")}))
    assert (report.status, report.detail) == ("unavailable", "this system has none (sched_setaffinity)")


def test_a_processor_that_is_not_there_is_refused_by_this_system() -> None:
    (report,) = apply(RealtimePolicy(cpus=(100_000,)))
    assert report.status == "refused"


def test_staying_where_it_is_works_on_this_system() -> None:
    here = tuple(sorted(os.sched_getaffinity(0)))
    (report,) = apply(RealtimePolicy(cpus=here))
    assert report.status == "applied"


@pytest.mark.parametrize(
    "wish", [{"cpus": ()}, {"cpus": (-1,)}, {"cpus": (1, 1)}, {"fifo_priority": 0}, {"fifo_priority": 50}]
)
def test_wishes_that_make_no_sense_are_refused(wish: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(wish))):
        RealtimePolicy(**wish)
