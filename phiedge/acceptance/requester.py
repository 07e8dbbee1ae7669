"""What a campaign measures: anything that answers one request at a time and tells when its tokens came."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from phiedge.acceptance.spec import Workload
from phiedge.bundle import Bundle
from phiedge.runtime.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """When each token of an answer came, in `time.perf_counter_ns`, when the request ended, and where its time went."""

    token_ns: tuple[int, ...]
    ended_ns: int
    phases_ms: dict[str, float]
    finish: str


class Requester(Protocol):
    """Answers one request after the other; `phiedge.errors` come through."""

    def request(self, workload: Workload) -> Answered: ...


# Opens the requester anew; a campaign does so at its start and at each restart.
OpenRequester = Callable[[], AbstractContextManager[Requester]]


@dataclass(frozen=True, slots=True)
class SessionRequester:
    """A session of phiedge; pictures are named from `directory`."""

    session: Session
    directory: Path

    def request(self, workload: Workload) -> Answered:
        """Read the answer to its end, with nothing between the tokens but the look at the clock."""
        events = self.session.stream(
            workload.prompt,
            [self.directory / picture for picture in workload.pictures],
            think=workload.think,
            max_new_tokens=workload.max_new_tokens,
            max_visual_tokens=workload.max_visual_tokens,
        )
        token_ns, result = [], None
        for event in events:
            if event.token_id is not None:
                token_ns.append(time.perf_counter_ns())
            result = event.result
        assert result is not None
        times = result.timings_ms
        return Answered(
            token_ns=tuple(token_ns),
            ended_ns=time.perf_counter_ns(),
            phases_ms={
                "preprocess": times.preprocess,
                "vision": times.vision,
                "prefill": times.prefill,
                "decode": times.decode,
            },
            finish=result.finish_reason,
        )


def session_opener(
    bundle: Bundle, directory: Path, *, max_context: int | None, threads: int | None, backend: str | None
) -> OpenRequester:
    """Opens sessions on `bundle`."""

    @contextmanager
    def open_session() -> Iterator[Requester]:
        with Session.open(bundle, max_context=max_context, threads=threads, backend=backend) as session:
            yield SessionRequester(session, directory)

    return open_session
