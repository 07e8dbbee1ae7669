"""A robot that looks and answers by a deadline that counts from the frame: `python examples/robot_loop.py BUNDLE`.

The camera is generated here: pictures of kiosks, thirty a second. Put your own iterable of frames in its place.
"""

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

import phiedge

BUDGET = phiedge.Budget(deadline_ms=1000, answer_tokens=6)
QUESTION = "How many buttons are there?"


def camera(frames: int, rate_hz: float) -> Iterator[npt.NDArray[np.uint8]]:
    """Frames as a camera gives them: whether or not anybody takes them."""
    from phiedge.reference.scenes import draw_scene

    tick = threading.Event()
    for seed in range(frames):
        yield np.asarray(draw_scene(seed, size=(256, 176), place="kiosk").picture)
        tick.wait(1 / rate_hz)


def main(bundle: str, frames: int = 90, rate_hz: float = 30.0) -> None:
    with phiedge.Session.open(bundle) as session, phiedge.LatestFrame(camera(frames, rate_hz)) as latest:
        for frame in latest:
            assert BUDGET.deadline_ms is not None
            left_ms = BUDGET.deadline_ms - frame.age_ms()
            if left_ms <= 0:
                continue  # the frame is too old to be worth an answer
            try:
                result = session.generate(
                    QUESTION, images=[frame.picture], think="off", budget=replace(BUDGET, deadline_ms=left_ms)
                )
            except phiedge.BudgetError as refused:
                print(f"frame {frame.number}: {refused.message}")
                continue
            assert result.outcome is not None
            print(f"frame {frame.number}: {result.answer!r}, {result.outcome.slack_ms:.0f} ms before its deadline")
        print(f"{latest.dropped} of {latest.came} frames were dropped, as newer ones came")


if __name__ == "__main__":
    main(*sys.argv[1:2])
