import numpy as np
import pytest

from phiedge.reference.pages import draw_chart, draw_document, tell_sum

SIZE = (240, 160)


@pytest.mark.parametrize("draw", [draw_document, draw_chart])
def test_a_seed_draws_the_same_page_again(draw) -> None:
    first, second, other = draw(3, SIZE), draw(3, SIZE), draw(4, SIZE)
    assert np.array_equal(np.asarray(first.picture), np.asarray(second.picture))
    assert not np.array_equal(np.asarray(first.picture), np.asarray(other.picture))
    assert first.picture is not None
    assert first.picture.size == SIZE


def test_the_thought_leads_to_the_answer() -> None:
    for seed in range(20):
        for page in (draw_chart(seed, SIZE), tell_sum(seed)):
            assert page.thinking.rstrip(".").endswith(page.answer)


def test_a_sum_adds_up() -> None:
    page = tell_sum(1)
    parts = [part.split() for part in page.prompt.removeprefix("I buy ").split(". ")[0].split(", ")]
    assert sum(int(part[0]) * int(part[-1]) for part in parts) == int(page.answer)
