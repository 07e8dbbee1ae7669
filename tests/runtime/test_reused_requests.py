"""Requests that have something in common with the one before: what is not computed again, and that nothing changes."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phiedge.bundle import Bundle
from phiedge.errors import ImageError, SessionError
from phiedge.runtime import loaded_model
from phiedge.runtime.budget import Budget
from phiedge.runtime.control import Control
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.session import Session
from timed_engines import PREFILL_MS, STEP_MS, VISION_MS, LogicalClock, latency_model, timed_engines

TOLERANCE = 1e-4  # float32, sums in another order; the logits of this model reach 10


@pytest.fixture(scope="module")
def keeping(oracle_bundle: Bundle) -> Iterator[Session]:
    with Session.open(oracle_bundle, reuse=True, chunk_tokens=64) as session:
        yield session


@pytest.fixture(scope="module")
def fresh(oracle_bundle: Bundle) -> Iterator[Session]:
    with Session.open(oracle_bundle, chunk_tokens=64) as session:
        yield session


def frame(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class Noting:
    """Notes the logits that answers are chosen by."""

    def __init__(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        self.logits: list[np.ndarray] = []
        original = session._sampler.choose

        def choose(logits: np.ndarray) -> int:
            self.logits.append(logits.copy())
            return original(logits)

        monkeypatch.setattr(session._sampler, "choose", choose)


def test_a_second_question_about_a_picture_costs_only_its_text(
    keeping: Session, fresh: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = frame(1)
    keeping.generate("What is it?", [picture], max_new_tokens=3)
    kept, whole = Noting(keeping, monkeypatch), Noting(fresh, monkeypatch)
    second = keeping.generate("Where does it stand, and why?", [picture], max_new_tokens=6)
    expected = fresh.generate("Where does it stand, and why?", [picture], max_new_tokens=6)
    assert second.token_ids == expected.token_ids
    assert second.tokens.reused > second.tokens.visual > 0
    assert (second.timings_ms.vision, expected.tokens.reused) == (0.0, 0)
    assert expected.timings_ms.vision > 0
    np.testing.assert_allclose(kept.logits, whole.logits, rtol=0, atol=TOLERANCE)


def test_a_conversation_goes_on_where_it_was(keeping: Session, fresh: Session) -> None:
    picture = frame(2)
    first = keeping.generate("What is it?", [picture], think="off", max_new_tokens=5)
    history = [
        {"role": "user", "content": "<image>\nWhat is it?"},
        {"role": "assistant", "content": first.answer or "It."},
    ]
    question = {"prompt": "And there?", "images": [picture], "history": history, "max_new_tokens": 5}
    second = keeping.generate(**question)
    assert second.tokens.reused > second.tokens.visual
    assert second.token_ids == fresh.generate(**question).token_ids


def test_another_picture_shares_what_stands_before_it(keeping: Session, fresh: Session) -> None:
    keeping.generate("What is it?", [frame(3)], max_new_tokens=2)
    other = keeping.generate("What is it?", [frame(4)], max_new_tokens=4)
    assert 0 < other.tokens.reused < other.tokens.prompt
    assert other.timings_ms.vision > 0
    assert other.token_ids == fresh.generate("What is it?", [frame(4)], max_new_tokens=4).token_ids


def test_a_picture_from_before_the_last_one_is_not_encoded_again(keeping: Session, fresh: Session) -> None:
    for seed in (5, 6):
        keeping.generate("What is it?", [frame(seed)], max_new_tokens=1)
    back = keeping.generate("What is it?", [frame(5)], max_new_tokens=4)
    assert back.timings_ms.vision == 0
    assert back.tokens.reused < back.tokens.prompt, "its features are kept, its rows are not"
    assert back.token_ids == fresh.generate("What is it?", [frame(5)], max_new_tokens=4).token_ids


def test_the_same_picture_seen_smaller_is_another_one(keeping: Session, fresh: Session) -> None:
    keeping.generate("What is it?", [frame(7)], max_new_tokens=1)
    options = {"images": [frame(7)], "max_visual_tokens": 20, "max_new_tokens": 4}
    smaller = keeping.generate("What is it?", **options)
    assert smaller.tokens.visual <= 20
    assert smaller.tokens.reused < smaller.tokens.prompt
    assert smaller.token_ids == fresh.generate("What is it?", **options).token_ids


def test_pictures_in_another_order_are_other_rows(keeping: Session, fresh: Session) -> None:
    one, two = frame(8), frame(9)
    keeping.generate("Which?", [one, two], max_new_tokens=1)
    turned = keeping.generate("Which?", [two, one], max_new_tokens=4)
    assert turned.timings_ms.vision == 0
    assert turned.tokens.reused < turned.tokens.prompt
    assert turned.token_ids == fresh.generate("Which?", [two, one], max_new_tokens=4).token_ids


def test_a_file_that_changed_is_read_again(keeping: Session, fresh: Session, tmp_path: Path) -> None:
    path = tmp_path / "frame.png"
    Image.fromarray(frame(10)).save(path)
    keeping.generate("What is it?", [path], max_new_tokens=1)
    assert keeping.generate("Or this?", [path], max_new_tokens=1).timings_ms.vision == 0
    Image.fromarray(frame(11)).save(path)
    changed = keeping.generate("What is it?", [path], max_new_tokens=4)
    assert changed.timings_ms.vision > 0
    assert changed.token_ids == fresh.generate("What is it?", [path], max_new_tokens=4).token_ids


def test_a_photograph_that_lies_on_its_side_keeps_its_grid(keeping: Session) -> None:
    file, image = io.BytesIO(), Image.fromarray(frame(12, 64, 160))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(file, "JPEG", exif=exif)
    first = keeping.generate("What is it?", [file.getvalue()], max_new_tokens=1)
    second = keeping.generate("Where is it?", [file.getvalue()], max_new_tokens=1)
    assert (second.tokens.visual, second.timings_ms.vision) == (first.tokens.visual, 0)
    assert second.tokens.reused > second.tokens.visual


def test_after_a_cancelled_request_only_what_was_computed_counts(keeping: Session, fresh: Session) -> None:
    picture = frame(13)
    stream = keeping.stream("What is it?", [picture], max_new_tokens=50)
    for _ in range(3):
        next(stream)
    keeping.cancel()
    list(stream)
    again = keeping.generate("What is it?", [picture], max_new_tokens=8)
    assert again.tokens.reused == again.tokens.prompt + again.tokens.visual - 1
    assert again.token_ids == fresh.generate("What is it?", [picture], max_new_tokens=8).token_ids


def test_a_prompt_that_was_stopped_between_chunks_is_taken_up_there(
    keeping: Session, fresh: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, original = frame(14), keeping._model.run_chunk

    def stops_after(start: int, count: int) -> object:
        if start >= 64:
            keeping.cancel()
        return original(start, count)

    monkeypatch.setattr(keeping._model, "run_chunk", stops_after)
    cut = keeping.generate("What is it? Say more.", [picture], max_new_tokens=8)
    monkeypatch.undo()
    assert (cut.finish_reason, cut.token_ids) == ("cancelled", ())
    again = keeping.generate("What is it? Say more.", [picture], max_new_tokens=8)
    assert 0 < again.tokens.reused < again.tokens.prompt + again.tokens.visual - 1
    assert again.token_ids == fresh.generate("What is it? Say more.", [picture], max_new_tokens=8).token_ids


def test_after_logits_were_asked_for_nothing_is_taken_for_known(keeping: Session, oracle: object) -> None:
    case = oracle.case("text")
    keeping.generate(case.prompt, raw=True, max_new_tokens=2)
    np.testing.assert_allclose(keeping.logits(case.prompt, raw=True), case["logits"][0, -1], rtol=0, atol=1e-3)
    result = keeping.generate(case.prompt, raw=True, max_new_tokens=8)
    assert result.tokens.reused == 0
    assert list(result.token_ids) == case.greedy


def test_a_row_that_is_no_number_is_not_used_again(keeping: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    original = keeping._model.step
    monkeypatch.setattr(keeping._model, "step", lambda token: original(token) * np.nan)
    with pytest.raises(SessionError, match="nan"):
        keeping.generate("What is it?", max_new_tokens=5)
    monkeypatch.undo()
    assert keeping.generate("What is it?", max_new_tokens=5).tokens.reused == 0


def test_a_picture_that_cannot_be_read_is_named(keeping: Session) -> None:
    with pytest.raises(ImageError, match="picture 2"):
        keeping.generate("Which?", [frame(1), b"no picture"])
    with pytest.raises(ImageError, match="no file"):
        keeping.generate("Which?", ["nowhere.png"])


def test_only_what_is_left_to_do_must_fit_into_a_deadline(
    oracle_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, clock = oracle_bundle.manifest.facts, LogicalClock()
    engines, engine = timed_engines(clock, hidden=facts.hidden_size, vocab=facts.vocab_size)
    monkeypatch.setattr(loaded_model, "open_engines", lambda *_, **__: engines)
    model = LoadedModel(oracle_bundle, max_context=None, threads=1, chunk_tokens=1024, reuse_bytes=10**6)
    control = Control(oracle_bundle, threads=1, clock_ns=clock, latency=latency_model(chunk_tokens=1024))
    picture = np.zeros((320, 320, 3), dtype=np.uint8)
    with Session(oracle_bundle, model, load_ns=0, control=control) as session:
        generous = Budget(deadline_ms=10_000, answer_tokens=4)
        first = session.generate("Is it open?", [picture], think="off", max_new_tokens=3, budget=generous)
        engine.calls.clear()
        second = session.generate("Is it shut?", [picture], think="off", max_new_tokens=3, budget=generous)
        assert engine.calls.count("vision") == 0
        left = second.tokens.prompt + second.tokens.visual - second.tokens.reused
        assert second.plan.forecast.prefill == pytest.approx(PREFILL_MS * left)
        assert (second.plan.forecast.vision, first.plan.forecast.vision) == (0, VISION_MS * 400)
        tight = Budget(deadline_ms=PREFILL_MS * left + 6 * STEP_MS, answer_tokens=4)
        third = session.generate("Is it wide?", [picture], think="off", budget=tight)
        assert third.outcome.overrun_ms == 0
        assert third.tokens.reused == second.tokens.reused
        assert third.timings_ms.total < first.timings_ms.total
