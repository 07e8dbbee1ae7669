from phiedge.runtime.thoughts import KNOWN, REMEMBERED, Thoughts


def thought(*tokens: int, closed: bool = False) -> Thoughts:
    thoughts = Thoughts()
    for length in tokens:
        thoughts.ended(length, closed=closed)
    return thoughts


def test_nothing_is_known_from_too_few() -> None:
    assert Thoughts().usual_tokens is None
    assert thought(*[7] * (KNOWN - 1)).usual_tokens is None


def test_what_is_usual_covers_nine_of_ten() -> None:
    assert thought(*[3] * 9, 18, *[3] * 9, 40).usual_tokens == 18


def test_a_thinking_that_was_closed_would_have_been_longer() -> None:
    assert thought(*[10] * KNOWN, closed=True).usual_tokens == 20


def test_what_was_long_ago_is_forgotten() -> None:
    assert thought(*[500] * REMEMBERED, *[5] * REMEMBERED).usual_tokens == 5
