import pytest

from phiedge.errors import UsageError
from phiedge.runtime.budget import Budget


def test_a_budget_keeps_what_it_is_given() -> None:
    budget = Budget(deadline_ms=6000, ttft_ms=2200, answer_tokens=64)
    assert (budget.deadline_ms, budget.ttft_ms, budget.token_ms, budget.answer_tokens) == (6000, 2200, None, 64)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "at least one limit"),
        ({"deadline_ms": 0}, "deadline_ms must be a positive number, not 0"),
        ({"token_ms": float("nan")}, "token_ms"),
        ({"ttft_ms": float("inf")}, "ttft_ms"),
        ({"answer_tokens": -1}, "answer_tokens"),
        ({"deadline_ms": 100, "ttft_ms": 200}, "ttft_ms 200 is later than deadline_ms 100"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(limits: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Budget(**limits)
