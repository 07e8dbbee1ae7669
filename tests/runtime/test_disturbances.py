"""What happens to a request with a deadline when its process, its clock, its memory or its threads are disturbed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from phiedge.bundle import Bundle
from phiedge.errors import SessionBusyError, SessionError
from phiedge.runtime.budget import Budget
from phiedge.runtime.session import Session

GENEROUS = Budget(deadline_ms=3_600_000, answer_tokens=4)
QUESTION = {"prompt": "hello", "think": "off", "max_new_tokens": 4}
STOPPED_S, WAIT_S = 2.0, 120


@pytest.fixture
def session(tiny_bundle: Bundle):
    with Session.open(tiny_bundle, max_context=256) as session:
        yield session


def test_the_wall_clock_may_jump_as_it_likes(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def jumping(*_: object) -> float:
        raise AssertionError("the wall clock was read")

    for name in ("time", "time_ns"):
        monkeypatch.setattr(time, name, jumping)
    assert session.generate(**QUESTION, budget=GENEROUS).outcome.overrun_ms == 0


def test_cancelling_before_or_after_a_request_does_nothing_to_the_next(session: Session) -> None:
    for _ in range(2):
        session.cancel()
        result = session.generate(**QUESTION, budget=GENEROUS)
        assert result.finish_reason in ("length", "stop")


def test_a_cancelled_request_leaves_the_next_one_its_deadline(session: Session) -> None:
    stream = session.stream(**QUESTION, budget=GENEROUS)
    next(stream)
    session.cancel()
    assert list(stream)[-1].result.finish_reason == "cancelled"
    assert session.generate(**QUESTION, budget=GENEROUS).finish_reason in ("length", "stop")


def test_a_second_thread_is_told_and_the_first_keeps_its_deadline(session: Session) -> None:
    stream, errors = session.stream(**QUESTION, budget=GENEROUS), list[Exception]()
    next(stream)

    def intrude() -> None:
        try:
            session.generate(**QUESTION, budget=GENEROUS)
        except SessionBusyError as error:
            errors.append(error)

    thread = threading.Thread(target=intrude)
    thread.start()
    thread.join(WAIT_S)
    assert len(errors) == 1
    assert list(stream)[-1].result.finish_reason in ("length", "stop")


def test_no_memory_for_a_picture_is_an_error_and_the_session_goes_on(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(type(session._model), "read_pictures", _no_memory)
        with pytest.raises(SessionError, match="no memory left for the request"):
            session.generate(**QUESTION, budget=GENEROUS)
    assert session.generate(**QUESTION, budget=GENEROUS).finish_reason in ("length", "stop")


@pytest.mark.parametrize("part", ["run_chunk", "step"])
def test_no_memory_in_the_middle_leaves_nothing_that_is_taken_for_known(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    with Session.open(tiny_bundle, max_context=256, reuse=True, chunk_tokens=4) as session:
        expected = session.generate(**QUESTION)
        with monkeypatch.context() as patched:
            patched.setattr(type(session._model), part, _no_memory)
            with pytest.raises(SessionError, match="no memory left"):
                session.generate(**QUESTION | {"prompt": "hello, hello"})
            with pytest.raises(SessionError, match="no memory left"):
                session.forced_logits("hello, hello", [5])
        again = session.generate(**QUESTION | {"prompt": "hello, hello"})
        assert again.tokens.reused == 0
        assert session.generate(**QUESTION).token_ids == expected.token_ids


def test_memory_that_runs_out_for_real_is_told_and_the_session_goes_on(tiny_bundle: Bundle) -> None:
    """In a process whose address space ends just above what an open session has."""
    program = Path(__file__).parents[1] / "support" / "short_of_memory.py"
    done = subprocess.run(
        [sys.executable, str(program), str(tiny_bundle.path)],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    first, *others, afterwards = done.stdout.splitlines()
    assert first.startswith("there is no memory left for"), done.stdout
    assert all(told.startswith(("there is no memory left for", "answered")) for told in others), done.stdout
    assert afterwards == "the same answer as before"


def _no_memory(*_: object, **__: object) -> None:
    raise MemoryError


_CHILD = """
import json, sys
import phiedge
with phiedge.Session.open(sys.argv[1], max_context=256) as session:
    budget = phiedge.Budget(deadline_ms=float(sys.argv[2]), answer_tokens=4)
    stream = session.stream("hello", think="off", max_new_tokens=200, budget=budget)
    next(stream)
    print("first", flush=True)
    sys.stdin.readline()  # whoever stops this process does it now
    *_, last = stream
    after = session.generate("hello", think="off", max_new_tokens=3)
    print(json.dumps([last.result.finish_reason, last.result.outcome.overrun_ms, after.finish_reason]))
"""


def test_a_process_that_is_stopped_for_two_seconds_says_how_late_it_was_and_goes_on(tiny_bundle: Bundle) -> None:
    command = [sys.executable, "-c", _CHILD, str(tiny_bundle.path), str(1000 * STOPPED_S - 200)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as child:
        assert child.stdout.readline() == "first\n"
        child.send_signal(signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
        threading.Event().wait(STOPPED_S)
        child.stdin.write("go on\n")
        child.stdin.flush()
        child.send_signal(signal.SIGCONT)
        finish, overrun_ms, after = json.loads(child.communicate(timeout=WAIT_S)[0])
    assert finish == "deadline"
    assert overrun_ms > 0
    assert after in ("length", "stop")
