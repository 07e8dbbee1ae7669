import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from phiedge.bundle import Bundle
from phiedge.pipeline import comparison
from phiedge.pipeline.comparison import compare_logits, end_to_end, task_accuracy
from phiedge.reference.evaluate import held_out
from phiedge.runtime.goldens import load
from phiedge.runtime.session import Session


def logits(*rows: Sequence[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_equal_logits_agree_in_every_figure() -> None:
    values = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    found = compare_logits(values, values)
    assert found.positions == 5
    assert (found.cosine_mean, found.cosine_min) == (1.0, 1.0)
    assert (found.kl_mean, found.kl_max, found.top1_agreement) == (0.0, 0.0, 1.0)


def test_the_divergence_is_from_fp32_to_the_other_in_nats() -> None:
    wanted, found = logits([math.log(0.75), math.log(0.25)]), logits([math.log(0.5), math.log(0.5)])
    assert compare_logits(wanted, found).kl_max == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), abs=1e-5)
    assert compare_logits(found, wanted).kl_max == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2), abs=1e-5)


def test_a_shift_of_all_logits_changes_no_probability_and_a_scale_no_angle() -> None:
    values = np.random.default_rng(1).normal(size=(3, 30)).astype(np.float32)
    assert compare_logits(values, values + 5).kl_max < 1e-6
    assert compare_logits(values, values * 2).cosine_min == pytest.approx(1.0)


def test_the_worst_position_and_the_mean_are_told_apart() -> None:
    found = compare_logits(logits([1, 0], [1, 0]), logits([1, 0], [0, 1]))
    assert (found.cosine_mean, found.cosine_min, found.top1_agreement) == (0.5, 0.0, 0.5)
    assert found.kl_max == pytest.approx(2 * found.kl_mean, rel=1e-5)


def test_logits_so_large_that_their_exponent_overflows_are_compared() -> None:
    found = compare_logits(logits([2000, 0]), logits([2000, 0]))
    assert (found.kl_max, found.top1_agreement) == (0.0, 1.0)


def test_a_bundle_agrees_with_itself_end_to_end(tiny_bundle: Bundle) -> None:
    goldens = load(tiny_bundle)[:2]
    with Session.open(tiny_bundle, max_context=1024) as session:
        found = end_to_end(session, goldens, session)
    assert found["positions"] == sum(len(golden.token_ids) for golden in goldens)
    assert (found["cosine_min"], found["kl_max"], found["top1_agreement"]) == (1.0, 0.0, 1.0)


class Answers:
    """A session that knows all answers, or always says the same."""

    def __init__(self, precision: str, always: str | None = None) -> None:
        self.bundle = SimpleNamespace(manifest=SimpleNamespace(precision=SimpleNamespace(name=precision)))
        self._always = always
        self._known = {picture.tobytes() + q.prompt.encode(): q.answer for picture, q in held_out(2)}

    def generate(self, prompt: str, images: Sequence[Image.Image], **_: object) -> Any:
        known = self._known[images[0].tobytes() + prompt.encode()]
        return SimpleNamespace(answer=known if self._always is None else self._always)


def test_accuracy_is_told_for_each_precision_with_chance_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "QUESTIONS_PER_TASK", 2)
    told: Any = task_accuracy(Answers("int4", always="nothing"), Answers("fp32"))
    assert (told["suite"], told["asked"]) == ("phiedge-reference-scenes-1", 12)
    assert (told["fp32"], told["quantised"]) == (1.0, 0.0)
    assert set(told["fp32_tasks"].values()) == {1.0}
    assert set(told["quantised_tasks"].values()) == {0.0}
    assert 0.0 < told["chance"] < 1.0
