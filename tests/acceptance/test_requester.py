"""A session as what is measured: deadlines, refusals, cancelling and known answers, on a small bundle."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from phiedge.acceptance.cases import Case
from phiedge.acceptance.cold_start import Start, cold_starter
from phiedge.acceptance.openings import Openings
from phiedge.acceptance.requester import Answered, SessionRequester, Turn, session_opener
from phiedge.acceptance.samples import Sample
from phiedge.acceptance.spec import Arrival, Workload
from phiedge.bundle import Bundle, hash_file
from phiedge.errors import DeviceError
from phiedge.runtime.forms.form import ChoiceForm, JsonForm
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.profile.identity import identity_here
from phiedge.runtime.profile.store import Fit, Profile, write_profile
from phiedge.runtime.realtime import RealtimePolicy
from phiedge.runtime.session import Session
from timed_engines import latency_model

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


def test_an_answer_of_a_form_counts_if_it_parses_and_is_right_only_then(tiny_bundle: Bundle, tmp_path: Path) -> None:
    case = Case(number=1, prompt="Hi", pictures=(), accepts=lambda said: True)
    quiz = Workload(name="quiz", cases="q", arrival=CLOSED, max_new_tokens=12, think="off")
    long = Workload(name="long", prompt="Hi", arrival=CLOSED, max_new_tokens=4000, think="on")
    forms = {"quiz": ChoiceForm(["yes", "no"]), "long": JsonForm({"type": "integer"})}
    with Session.open(tiny_bundle) as session:
        requester = SessionRequester(session, tmp_path, {"quiz": (case,)}, forms)
        whole = requester.request(quiz, now())
        stopped = requester.request(long, now(cancel_after_ms=20.0))
    assert (whole.said in ("yes", "no"), whole.formed, whole.right) == (True, True, True)
    assert (stopped.finish, stopped.formed) == ("cancelled", False)


def test_what_does_not_parse_was_not_answered() -> None:
    def answer_ms(formed: bool | None) -> float | None:
        answered = Answered(token_ns=(1,), ended_ns=5_000_000, phases_ms={}, finish="stop", formed=formed)
        timed = Sample.of(
            answered, intended_ns=0, started_ns=0, begun_ns=0, start=0, first=True, deadline_ms=None
        )  # fmt: skip
        assert timed.e2e_ms == 5.0
        return timed.answer_ms

    assert [answer_ms(formed) for formed in (None, True, False)] == [5.0, 5.0, None]


def test_the_profile_that_deadlines_rest_on_is_noted_and_no_other(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bundle = Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "bundle"))
    model = LoadedModel(bundle, max_context=512, threads=1, chunk_tokens=256)
    here = identity_here(bundle, model, threads=1)
    fit = Fit(
        requests=3, median_error=0.01, p95_error=0.1, median_error_as_forecast=0.01, p95_error_as_forecast=0.1,
        within=1.0,
    )  # fmt: skip
    for identity in (here, replace(here, machine={**here.machine, "processor": "Other"})):
        profile = Profile(identity=identity, model=latency_model(), fit=fit, seconds=1.0, load_average=(0.0, 0.1))
        path = write_profile(bundle, profile)
    free = Workload(name="w", prompt="Hi", arrival=CLOSED, max_new_tokens=2)
    timed = Workload(name="w", prompt="Hi", arrival=CLOSED, max_new_tokens=2, deadline_ms=600_000.0)
    noted = {}
    for workload in (free, timed):
        openings = Openings()
        opener = session_opener(
            bundle, tmp_path, max_context=512, threads=1, backend=None, openings=openings,
            realtime=RealtimePolicy(freeze_garbage=True),
        )  # fmt: skip
        for _ in range(2):
            with opener() as requester:
                requester.request(workload, now())
        noted[workload] = openings
    assert noted[free].profiles == []
    (used,) = noted[timed].profiles
    assert used["identity"]["machine"]["processor"] == here.machine["processor"]
    assert used["sha256"] == hash_file(bundle.path / used["file"])
    assert used["file"] != str(path.relative_to(bundle.path)), "of another machine"
    assert [[wish["wish"] for wish in opening] for opening in noted[timed].wishes()] == [
        ["freeze_garbage"],
        ["freeze_garbage"],
    ]


def test_a_cold_start_has_the_wishes_that_it_was_told() -> None:
    wishes = RealtimePolicy(cpus=(0, 1), warm_up=((64, 48),), freeze_garbage=True)
    for realtime in (None, wishes, RealtimePolicy()):
        start = Start(bundle="b", prompt="Hi", max_context=9, threads=None, backend=None, realtime=realtime)
        assert Start.read(start.written()) == start
