"""What a campaign measures: anything that answers one request at a time and tells when its tokens came."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from phiedge.acceptance.cases import Case
from phiedge.acceptance.openings import Openings
from phiedge.acceptance.spec import Workload
from phiedge.bundle import Bundle
from phiedge.errors import BudgetError
from phiedge.runtime.budget import Budget
from phiedge.runtime.forms.form import Form
from phiedge.runtime.images import ImageSource
from phiedge.runtime.realtime import RealtimePolicy
from phiedge.runtime.result import Result
from phiedge.runtime.session import Session

_LEAST_DEADLINE_MS = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Which request of its workload it is (of the warm-up ones, from -1 down), when it was meant to start in
    `time.perf_counter_ns`, and after how long it is to be cancelled."""

    number: int
    intended_ns: int
    cancel_after_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """When each token of an answer came, in `time.perf_counter_ns`, when the request ended, and where its time went.

    `finish` is that of a result, or "refused" where a deadline was taken for one that cannot be met. `cancelled_ns` is
    when it was told to end, if it was before its end. `right` is None where nothing is expected; `formed`,
    whether the answer parses, is None where no form was asked for.
    """

    token_ns: tuple[int, ...]
    ended_ns: int
    phases_ms: dict[str, float]
    finish: str
    cancelled_ns: int | None = None
    case: int | None = None
    right: bool | None = None
    said: str | None = None
    formed: bool | None = None


class Requester(Protocol):
    """Answers one request after the other; `phiedge.errors` come through."""

    def request(self, workload: Workload, turn: Turn) -> Answered: ...


# Opens the requester anew; a campaign does so at its start and at each restart.
OpenRequester = Callable[[], AbstractContextManager[Requester]]


@dataclass(frozen=True, slots=True)
class SessionRequester:
    """A session of phiedge; pictures are named from `directory`, `cases` and `forms` are by workload."""

    session: Session
    directory: Path
    cases: Mapping[str, tuple[Case, ...]] = field(default_factory=dict)
    forms: Mapping[str, Form] = field(default_factory=dict)

    def request(self, workload: Workload, turn: Turn) -> Answered:
        """Read the answer to its end, with nothing between the tokens but the look at the clock."""
        cases = self.cases.get(workload.name)
        case = None if cases is None else cases[turn.number % len(cases)]
        number = None if case is None else case.number
        form = self.forms.get(workload.name)
        options = _options(workload, turn) | {"form": form}
        token_ns, result = [], None
        with self._cancelled(turn.cancel_after_ms) as cancelled_ns:
            try:
                for event in self.session.stream(*self._asked(workload, case), **options):
                    if event.token_id is not None:
                        token_ns.append(time.perf_counter_ns())
                    result = event.result
            except BudgetError:
                return Answered(
                    token_ns=(), ended_ns=time.perf_counter_ns(), phases_ms={}, finish="refused", case=number,
                    right=None if case is None else False, formed=None if form is None else False,
                )  # fmt: skip
            ended_ns = time.perf_counter_ns()
        assert result is not None
        formed = None if form is None else parses(form, result)
        return Answered(
            token_ns=tuple(token_ns),
            ended_ns=ended_ns,
            phases_ms=_phases_ms(result),
            finish=result.finish_reason,
            cancelled_ns=next((at for at in cancelled_ns if at < ended_ns), None),
            case=number,
            right=None if case is None else formed is not False and case.accepts(result.answer),
            said=None if case is None and form is None else result.answer,
            formed=formed,
        )

    def _asked(self, workload: Workload, case: Case | None) -> tuple[str, list[ImageSource]]:
        if case is not None:
            return case.prompt, list(case.pictures)
        return workload.prompt, [self.directory / picture for picture in workload.pictures]

    @contextmanager
    def _cancelled(self, after_ms: float | None) -> Iterator[list[int]]:
        """Cancels what runs after that time, from a thread of its own; gives the moment at which it did."""
        moments: list[int] = []
        if after_ms is None:
            yield moments
            return

        def cancel() -> None:
            moments.append(time.perf_counter_ns())
            self.session.cancel()

        timer = threading.Timer(after_ms / 1e3, cancel)
        timer.start()
        try:
            yield moments
        finally:
            timer.cancel()
            timer.join()


def _options(workload: Workload, turn: Turn) -> dict[str, Any]:
    """The options of a request. What it waited for its turn is taken off its deadline."""
    budget = None
    if workload.deadline_ms is not None:
        waited_ms = max(0.0, (time.perf_counter_ns() - turn.intended_ns) / 1e6)
        budget = Budget(
            deadline_ms=max(_LEAST_DEADLINE_MS, workload.deadline_ms - waited_ms),
            answer_tokens=workload.answer_tokens,
            on_infeasible=workload.on_infeasible,
        )
    return {
        "think": workload.think,
        "max_new_tokens": workload.max_new_tokens,
        "max_visual_tokens": workload.max_visual_tokens,
        "budget": budget,
    }


def parses(form: Form, result: Result) -> bool:
    """Whether an answer has the form that was asked for, told by its text and not by who wrote it."""
    if result.value is None and result.answer.strip() != "null":
        return False
    try:
        form.value(result.answer)
    except ValueError:
        return False
    return True


def _phases_ms(result: Result) -> dict[str, float]:
    times = result.timings_ms
    return {
        "preprocess": times.preprocess,
        "vision": times.vision,
        "prefill": times.prefill,
        "decode": times.decode,
    }


def session_opener(
    bundle: Bundle,
    directory: Path,
    *,
    max_context: int | None,
    threads: int | None,
    backend: str | None,
    cases: Mapping[str, tuple[Case, ...]] | None = None,
    forms: Mapping[str, Form] | None = None,
    realtime: RealtimePolicy | None = None,
    openings: Openings | None = None,
) -> OpenRequester:
    """Opens sessions on `bundle`; what they tell of themselves goes to `openings`."""
    noted = Openings() if openings is None else openings

    @contextmanager
    def open_session() -> Iterator[Requester]:
        with Session.open(
            bundle, max_context=max_context, threads=threads, backend=backend, realtime=realtime
        ) as session:
            noted.opened(session)
            try:
                yield SessionRequester(session, directory, cases or {}, forms or {})
            finally:
                noted.used(session)

    return open_session
