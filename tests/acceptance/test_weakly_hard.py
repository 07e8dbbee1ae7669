"""At most m misses in any K consecutive requests."""

import numpy as np
import pytest

from phiedge.acceptance.weakly_hard import WeaklyHard, violations
from phiedge.errors import UsageError


def where(word: str, first: str, misses: int, of: int) -> list[int]:
    missed = np.array([letter == "x" for letter in word])
    starts = np.array([letter == "x" for letter in first])
    return np.flatnonzero(violations(missed, starts, WeaklyHard(misses=misses, of=of))).tolist()


def test_every_window_counts() -> None:
    assert where("x..x..x", "x......", 1, 4) == [3, 6]
    assert where("x...x...x", "x........", 1, 4) == []


def test_windows_begin_anew_after_a_restart() -> None:
    assert where("..x" + "x..", "x..x..", 1, 3) == []
    assert where("..xx..", "x.....", 1, 3) == [3, 4]


def test_the_first_misses_count_before_a_window_is_full() -> None:
    assert where("xx", "x.", 1, 10) == [1]


@pytest.mark.parametrize(("misses", "of"), [(-1, 3), (3, 3), (0, 0)])
def test_budgets_that_say_nothing_are_refused(misses: int, of: int) -> None:
    with pytest.raises(UsageError):
        WeaklyHard(misses=misses, of=of)
