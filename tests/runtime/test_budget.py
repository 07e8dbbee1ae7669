import pytest

from phiedge.errors import UsageError
from phiedge.runtime.budget import DEFAULT_ANSWER_TOKENS, Budget


def test_a_budget_keeps_what_it_is_given() -> None:
    budget = Budget(deadline_ms=6000, ttft_ms=2200, answer_tokens=64)
    assert (budget.deadline_ms, budget.ttft_ms, budget.token_ms, budget.answer_tokens) == (6000, 2200, None, 64)


def test_a_deadline_alone_keeps_some_room_for_the_answer() -> None:
    assert Budget(deadline_ms=100).answer_reserve == DEFAULT_ANSWER_TOKENS
    assert Budget(deadline_ms=100, answer_tokens=5).answer_reserve == 5


def test_nothing_is_given_up_unless_it_is_allowed() -> None:
    assert Budget(deadline_ms=100).may_give_up == ()
    assert Budget(deadline_ms=100, on_infeasible="degrade", sacrifices=("thinking",)).may_give_up == ("thinking",)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "at least one limit"),
        ({"answer_tokens": 64}, "at least one limit"),
        ({"deadline_ms": 0}, "deadline_ms must be a positive number, not 0"),
        ({"deadline_ms": -5}, "deadline_ms must be a positive number, not -5"),
        ({"deadline_ms": True}, "deadline_ms must be a positive number, not True"),
        ({"deadline_ms": "100"}, "deadline_ms must be a positive number, not 100"),
        ({"deadline_ms": 1e9}, "deadline_ms 1e.09 is more than a day"),
        ({"token_ms": float("nan")}, "token_ms"),
        ({"ttft_ms": float("inf")}, "ttft_ms"),
        ({"deadline_ms": 100, "answer_tokens": -1}, "answer_tokens must be a whole number of at least 1, not -1"),
        ({"deadline_ms": 100, "answer_tokens": 1.5}, "answer_tokens must be a whole number of at least 1, not 1.5"),
        ({"deadline_ms": 100, "ttft_ms": 200}, "ttft_ms 200 is later than deadline_ms 100"),
        ({"deadline_ms": 100, "think_ms": 200}, "think_ms 200 is later than deadline_ms 100"),
        ({"think_tokens": 4, "min_think_tokens": 5}, "min_think_tokens 5 is more than think_tokens 4"),
        ({"ttft_ms": 100, "answer_tokens": 4}, "answer_tokens 4 are kept out of a deadline, and there is none"),
        ({"think_tokens": 4, "on_infeasible": "degrade"}, "has nothing to meet"),
        ({"deadline_ms": 100, "min_visual_tokens": 64}, "min_visual_tokens 64 has no effect"),
        ({"deadline_ms": 100, "on_infeasible": "hope"}, "not 'hope'"),
        ({"deadline_ms": 100, "think": "often"}, "no think mode 'often'"),
        ({"deadline_ms": 100, "think": "off", "think_tokens": 5}, "think_tokens 5 has no effect on think='off'"),
        ({"deadline_ms": 100, "think": "off", "min_think_tokens": 5}, "min_think_tokens 5 has no effect"),
        ({"deadline_ms": 100, "sacrifices": ()}, "sacrifices"),
        ({"deadline_ms": 100, "sacrifices": ("visual", "visual")}, "each once"),
        ({"deadline_ms": 100, "sacrifices": ("answer",)}, "visual, thinking"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(limits: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Budget(**limits)
