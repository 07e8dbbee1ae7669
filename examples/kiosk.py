"""A kiosk where several people ask at once, each by a deadline: `python examples/kiosk.py BUNDLE`.

The session answers one question at a time, in a thread, so that the event loop stays free. Who waits pays with the
waiting: the deadline counts from the question. Who leaves takes the question along. The screen is generated here; put
your own picture and your own questions in its place.
"""

import asyncio
import sys
from dataclasses import replace

import numpy as np
import numpy.typing as npt

import phiedge

BUDGET = phiedge.Budget(deadline_ms=1500, answer_tokens=6, on_infeasible="degrade")
QUESTIONS = ("How many buttons are there?", "What number is on the display?", "Which colour is the button?")


class Kiosk:
    """One session for all who ask."""

    def __init__(self, session: phiedge.Session, budget: phiedge.Budget) -> None:
        self._session, self._budget = session, budget
        self._turn = asyncio.Lock()

    async def ask(self, question: str, screen: npt.NDArray[np.uint8]) -> str:
        """The answer, or why there is none. Cancelling this ends the request, too."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        async with self._turn:
            assert self._budget.deadline_ms is not None
            left_ms = self._budget.deadline_ms - 1000 * (loop.time() - asked)
            if left_ms <= 0:
                return "too many were before you"
            return await self._answer(question, screen, replace(self._budget, deadline_ms=left_ms))

    async def _answer(self, question: str, screen: npt.NDArray[np.uint8], budget: phiedge.Budget) -> str:
        answering = asyncio.ensure_future(
            asyncio.to_thread(self._session.generate, question, images=[screen], think="off", budget=budget)
        )
        try:
            result = await asyncio.shield(answering)
        except asyncio.CancelledError:
            self._session.cancel()  # the thread ends its request; the next one finds the session free
            await asyncio.wait([answering])
            raise
        except phiedge.BudgetError as refused:
            return refused.message
        assert result.outcome is not None
        return f"{result.answer!r}, {result.outcome.slack_ms:.0f} ms before its deadline"


async def visit(bundle: str, visitors: int, budget: phiedge.Budget) -> list[str]:
    """So many visitors at once; the last one leaves before the answer."""
    from phiedge.reference.scenes import draw_scene

    screen = np.asarray(draw_scene(3, size=(256, 176), place="kiosk").picture)
    with phiedge.Session.open(bundle) as session:
        kiosk = Kiosk(session, budget)
        asking = [asyncio.ensure_future(kiosk.ask(QUESTIONS[n % len(QUESTIONS)], screen)) for n in range(visitors)]
        leaving = asyncio.ensure_future(kiosk.ask("What is this?", screen))
        await asyncio.sleep(0)
        leaving.cancel()
        answers = await asyncio.gather(*asking)
        await asyncio.wait([leaving])
        return [*answers, "left before the answer" if leaving.cancelled() else leaving.result()]


def main(bundle: str, visitors: int = 6, budget: phiedge.Budget = BUDGET) -> None:
    for place, told in enumerate(asyncio.run(visit(bundle, visitors, budget))):
        print(f"visitor {place}: {told}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
