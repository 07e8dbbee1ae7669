import errno
import os
from collections.abc import Sequence

import pytest

from phiedge.bundle import Bundle
from phiedge.errors import UsageError
from phiedge.runtime.realtime import RealtimePolicy, System, apply, watch_over
from phiedge.runtime.session import Session

EVERYTHING = RealtimePolicy(cpus=(1, 2), fifo_priority=10, lock_memory=True, freeze_garbage=True)


class Recorded(System):
    """Does nothing, and says no where it was told to."""

    def __init__(self, no: dict[str, Exception] | None = None, throttle: tuple[int, int] | None = None) -> None:
        self.calls: list[tuple[object, ...]] = []
        self._no, self._throttle = no or {}, throttle
        self.fifo: int | None = None
        self.faults = 0

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

    def own_fifo(self) -> int | None:
        return self.fifo

    def page_faults(self) -> int:
        return self.faults

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


def test_every_shape_is_answered_before_anything_is_asked() -> None:
    tried: list[tuple[object, int]] = []

    def trial(size: tuple[int, int] | None, tokens: int) -> float:
        tried.append((size, tokens))
        return 10.0 if len(tried) <= 2 else 4.0

    (report,) = apply(RealtimePolicy(warm_up=((64, 48),)), system=Recorded(), trial=trial)
    assert [size for size, _ in tried] == [None, (64, 48)] * 2
    assert (report.status, report.detail) == ("applied", "2 shapes took 20.0 ms the first time, 8.0 ms then")


@pytest.mark.parametrize(
    ("each", "status", "told"),
    [(0, "applied", "no page was touched for the first time in 64"), (1, "refused", "64 pages were touched")],
)
def test_tokens_that_touch_new_memory_are_told(each: int, status: str, told: str) -> None:
    system = Recorded()

    def trial(size: tuple[int, int] | None, tokens: int) -> float:
        system.faults += 100 + each * tokens  # a request allocates, whatever its tokens do
        return 1.0

    (report,) = apply(RealtimePolicy(check_allocation=True), system=system, trial=trial)
    assert (report.wish, report.status) == ("check_allocation", status)
    assert report.detail.startswith(told)


def test_without_a_session_nothing_can_be_warmed_up() -> None:
    reports = apply(RealtimePolicy(warm_up=(), check_allocation=True), system=Recorded())
    assert [report.status for report in reports] == ["unavailable"] * 2
    assert "Session.open" in reports[0].detail


def test_a_session_asks_for_its_wishes_when_it_opens(tiny_bundle: Bundle) -> None:
    wishes = RealtimePolicy(warm_up=((64, 64),), check_allocation=True)
    with Session.open(tiny_bundle, max_context=512, realtime=wishes) as session:
        assert [report.wish for report in session.realtime] == ["warm_up", "check_allocation"]
        assert session.realtime[0].status == "applied"
        assert session.generate("hello", think="off", max_new_tokens=2).token_ids


def test_a_thread_that_watches_stands_above_what_it_watches() -> None:
    system = Recorded()
    watch_over(system)
    assert system.calls == []
    system.fifo = 10
    watch_over(system)
    assert system.calls == [("fifo", 0, 11)]
    watch_over(Recorded({"fifo": PermissionError(errno.EPERM, "no")}))


@pytest.mark.parametrize(
    "wish",
    [
        {"cpus": ()},
        {"cpus": (-1,)},
        {"cpus": (1, 1)},
        {"fifo_priority": 0},
        {"fifo_priority": 50},
        {"warm_up": ((0, 5),)},
        {"warm_up": ((5,),)},
    ],
)
def test_wishes_that_make_no_sense_are_refused(wish: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(wish))):
        RealtimePolicy(**wish)
