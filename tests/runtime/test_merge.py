import pytest

from phiedge.errors import ContextLengthError
from phiedge.runtime.merge import PictureRows, TextRows, plan_rows
from phiedge.runtime.preprocess import Grid
from phiedge.runtime.prompt import Prompt

TWO = Prompt(pieces=((1, 2), (3,), (4, 5, 6)), starts_thinking=False)
GRIDS = [Grid(rows=2, columns=5), Grid(rows=1, columns=4)]


def test_pictures_stand_where_their_placeholders_stood() -> None:
    plan = plan_rows(TWO, GRIDS, context=100, room=1, cut_at=None)
    assert plan.rows == (
        TextRows(start=0, tokens=(1, 2)),
        PictureRows(start=2, picture=0, count=10, whole=10),
        TextRows(start=12, tokens=(3,)),
        PictureRows(start=13, picture=1, count=4, whole=4),
        TextRows(start=17, tokens=(4, 5, 6)),
    )
    assert (plan.text_tokens, plan.visual_tokens, plan.length) == (6, 14, 20)


def test_pictures_side_by_side_have_nothing_between_them() -> None:
    side_by_side = Prompt(pieces=((), (), ()), starts_thinking=False)
    plan = plan_rows(side_by_side, GRIDS, context=100, room=1, cut_at=None)
    assert [part.start for part in plan.rows] == [0, 10]


@pytest.mark.parametrize(
    ("cut_at", "text", "visual"), [(20, 6, 14), (18, 4, 14), (15, 3, 12), (12, 2, 10), (5, 2, 3), (2, 2, 0), (1, 1, 0)]
)
def test_the_publishers_cut_keeps_the_first_rows(cut_at: int, text: int, visual: int) -> None:
    plan = plan_rows(TWO, GRIDS, context=100, room=1, cut_at=cut_at)
    assert (plan.text_tokens, plan.visual_tokens) == (text, visual)


def test_the_publisher_does_not_cut_text_alone() -> None:
    text = Prompt(pieces=((1, 2, 3),), starts_thinking=False)
    assert plan_rows(text, [], context=100, room=1, cut_at=2).length == 3


def test_what_does_not_fit_is_refused_with_every_number() -> None:
    with pytest.raises(ContextLengthError) as caught:
        plan_rows(TWO, GRIDS, context=18, room=1, cut_at=None)
    assert caught.value.message == (
        "the prompt has 6 text tokens and 14 visual tokens, 20 together; "
        "the context has 18 positions, which leaves 0 for the answer"
    )
    assert "max_visual_tokens" in str(caught.value.remedy)


def test_room_for_the_answer_is_part_of_the_fit() -> None:
    assert plan_rows(TWO, GRIDS, context=20, room=0, cut_at=None).length == 20
    with pytest.raises(ContextLengthError):
        plan_rows(TWO, GRIDS, context=20, room=1, cut_at=None)


def test_a_long_text_is_told_to_be_shortened() -> None:
    text = Prompt(pieces=(tuple(range(30)),), starts_thinking=False)
    with pytest.raises(ContextLengthError, match="30 text tokens and 0 visual tokens") as caught:
        plan_rows(text, [], context=10, room=1, cut_at=None)
    assert "shorten" in str(caught.value.remedy)
