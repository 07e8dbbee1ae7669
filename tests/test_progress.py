from collections.abc import Callable
from contextlib import AbstractContextManager

from phiedge.progress import Labelled, silent


def test_silent_progress_takes_every_count_and_says_nothing() -> None:
    with silent.task("weights", 3, "tensors") as advance:
        advance(1)
        advance(2)


def test_a_label_is_added_to_every_name() -> None:
    names = []

    class Heard:
        def task(self, name: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]:
            names.append((name, total, unit))
            return silent.task(name, total, unit)

    with Labelled(progress=Heard(), label="fp32").task("trace", 2, "graphs") as advance:
        advance(2)
    assert names == [("trace fp32", 2, "graphs")]
