"""What the reference model is worth: it answers, it looks at the picture for it, and int4 costs it next to nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from phiedge.pipeline import export
from phiedge.reference.evaluate import SUITE_CONTEXT, Disturbance, Score, evaluate
from phiedge.runtime.session import Session

Scorer = Callable[..., Score]


@pytest.fixture(scope="module")
def score(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """Scores of the reference model by precision and disturbance, on the same questions; each is computed once."""
    directory = tmp_path_factory.mktemp("accuracy")
    scores: dict[tuple[str, Disturbance], Score] = {}
    bundles: dict[str, Path] = {}

    def run(precision: str, disturbance: Disturbance = "none", per_task: int = 80) -> Score:
        if precision not in bundles:
            bundles[precision] = export(target="orin", precision=precision, output=directory / precision).path
        if (precision, disturbance) not in scores:
            with Session.open(bundles[precision], max_context=SUITE_CONTEXT) as session:
                scores[precision, disturbance] = evaluate(session, per_task=per_task, disturbance=disturbance)
        return scores[precision, disturbance]

    return run


def test_nine_held_out_questions_in_ten_are_answered_right(score: Scorer) -> None:
    assert score("fp32").accuracy >= 0.9


def test_every_task_is_far_above_chance(score: Scorer) -> None:
    for task in score("fp32").tasks:
        assert task.accuracy >= task.chance + 0.3, task


def test_int4_in_groups_of_128_costs_at_most_two_points(score: Scorer) -> None:
    assert score("int4").accuracy >= score("fp32").accuracy - 0.02


@pytest.mark.parametrize("disturbance", ["blank", "swap"])
def test_without_the_right_picture_it_falls_to_chance(score: Scorer, disturbance: Disturbance) -> None:
    disturbed = score("fp32", disturbance, per_task=40)
    assert disturbed.accuracy <= disturbed.chance + 0.08
