"""A whole request, asked of a session as anyone would, until its first token."""

from collections.abc import Callable

from phiedge.runtime.bench.plan import PictureCase
from phiedge.runtime.bench.spread import repeat
from phiedge.runtime.bench.vision import noise
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.session import Session

QUESTION = "What is this?"
AT_MOST = 10


def request_tokens(model: LoadedModel, case: PictureCase | None) -> int:
    """How many positions the request takes: its text, and its picture if it has one."""
    prompt = model.prompts.chat(QUESTION, images=0 if case is None else 1)
    return prompt.text_tokens + (0 if case is None else case.grid.tokens)


def measure_first_token(
    session: Session, *, case: PictureCase | None, until_ns: int, clock_ns: Callable[[], int]
) -> tuple[int, ...]:
    """Nanoseconds from the request to its first token, for as many requests as end before `until_ns`, at least one."""
    images = [] if case is None else [noise(case)]

    def run() -> int:
        begun_ns = clock_ns()
        events = session.stream(QUESTION, images, max_new_tokens=1)
        next(events)
        spent_ns = clock_ns() - begun_ns
        for _ in events:  # to its end, which sets the session free
            pass
        return spent_ns

    return tuple(repeat(run, at_least=1, at_most=AT_MOST, until_ns=until_ns, clock_ns=clock_ns))
