"""A session as what is measured: deadlines, refusals, cancelling and known answers, on a small bundle."""

import time
from pathlib import Path

import pytest

from phiedge.acceptance.cases import Case
from phiedge.acceptance.cold_start import Start, cold_starter
from phiedge.acceptance.requester import SessionRequester, Turn
from phiedge.acceptance.spec import Arrival, Workload
from phiedge.bundle import Bundle
from phiedge.errors import DeviceError
from phiedge.runtime.session import Session

CLOSED = Arrival(kind="closed", pause_ms=0.0)


def now(number: int = 0, **more: float) -> Turn:
    return Turn(number=number, intended_ns=time.perf_counter_ns(), **more)


def test_a_session_keeps_the_deadline_of_a_workload_and_can_be_cancelled(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with Session.open(tiny_bundle) as session:
        requester = SessionRequester(session, tmp_path)
        free = Workload(name="w", prompt="Hi", arrival=CLOSED, max_new_tokens=3)
        assert len(requester.request(free, now()).token_ns) == 3
        late = Workload(name="w", prompt="Hi", arrival=CLOSED, deadline_ms=1.0)
        waited = Turn(number=0, intended_ns=time.perf_counter_ns() - 10_000_000)
        assert requester.request(late, waited).finish == "deadline"
        long = Workload(name="w", prompt="Hi", arrival=CLOSED, max_new_tokens=4000, think="on")
        stopped = requester.request(long, now(cancel_after_ms=20.0))
        assert stopped.finish == "cancelled"
        assert stopped.cancelled_ns is not None
        assert stopped.cancelled_ns < stopped.ended_ns
        assert requester.request(free, now(cancel_after_ms=60_000.0)).cancelled_ns is None


def test_a_deadline_that_needs_a_profile_and_has_none_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    workload = Workload(name="w", prompt="Hi", arrival=CLOSED, deadline_ms=500.0, on_infeasible="degrade")
    with Session.open(tiny_bundle) as session:
        answered = SessionRequester(session, tmp_path).request(workload, now())
    assert (answered.finish, answered.token_ns) == ("refused", ())


def test_cases_are_asked_in_turn_and_judged(tiny_bundle: Bundle, tmp_path: Path) -> None:
    cases = tuple(
        Case(number=number, prompt="Hi", pictures=(), accepts=lambda said, right=right: right)
        for number, right in ((4, True), (9, False))
    )
    quiz = Workload(name="quiz", cases="q", arrival=CLOSED, max_new_tokens=2)
    with Session.open(tiny_bundle) as session:
        requester = SessionRequester(session, tmp_path, {"quiz": cases})
        answers = [requester.request(quiz, now(number)) for number in (0, 1, 2)]
    assert [(one.case, one.right) for one in answers] == [(4, True), (9, False), (4, True)]
    assert all(one.said is not None for one in answers)


def test_a_cold_start_takes_time_and_one_that_fails_says_why(tiny_bundle: Bundle, tmp_path: Path) -> None:
    start = Start(bundle=str(tiny_bundle.path), prompt="Hi", max_context=None, threads=1, backend=None)
    assert cold_starter(start)() > 50.0
    missing = Start(bundle=str(tmp_path), prompt="Hi", max_context=None, threads=1, backend=None)
    with pytest.raises(DeviceError, match="did not answer"):
        cold_starter(missing)()
