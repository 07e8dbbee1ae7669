import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from phiedge.errors import (
    BundleError,
    ContextLengthError,
    ImageError,
    PromptError,
    SessionBusyError,
    SessionClosedError,
    SessionError,
    UsageError,
)
from phiedge.runtime.session import Session

CASES = ["text", "img1", "img1_think", "img1_nothink", "img2", "img2_swapped"]


@pytest.fixture(scope="module")
def session(oracle_bundle) -> Iterator[Session]:
    with Session.open(oracle_bundle.path) as session:
        yield session


@pytest.mark.parametrize("name", CASES)
def test_logits_are_the_publishers(session: Session, oracle, name: str) -> None:
    case = oracle.case(name)
    logits = session.logits(case.prompt, case.images, raw=True)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, case["logits"][0, -1], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_greedy_tokens_are_the_publishers(session: Session, oracle, name: str) -> None:
    case = oracle.case(name)
    result = session.generate(case.prompt, case.images, raw=True, max_new_tokens=8)
    assert list(result.token_ids) == case.greedy
    assert result.tokens.prompt == case["input_ids"].size - len(case.images)
    assert result.tokens.visual == sum(rows * columns for rows, columns in case.facts["grids"])


@pytest.mark.parametrize(
    ("name", "question", "think"),
    [("text", "What is 1+1?", "auto"), ("img1", "Describe.", "auto"), ("img1_think", "Describe.", "on"),
     ("img1_nothink", "Describe.", "off"), ("img2", "A <image> then <image>\nWhich?", "auto")],
)  # fmt: skip
def test_questions_are_answered_as_the_publishers_rendering_is(session, oracle, name, question, think) -> None:
    case = oracle.case(name)
    result = session.generate(question, case.images, think=think, max_new_tokens=8)
    assert list(result.token_ids) == case.greedy
    assert (result.tokens.thinking > 0) == (think == "on")


@pytest.mark.parametrize("name", CASES)
def test_logits_after_forced_tokens_are_the_publishers(session: Session, oracle, name: str) -> None:
    case = oracle.case(name)
    logits = session.forced_logits(case.prompt, case.greedy[:-1], case.images, raw=True)
    np.testing.assert_allclose(logits, case["step_logits"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("token", [-1, 512])
def test_a_forced_token_outside_the_vocabulary_is_refused(session: Session, token: int) -> None:
    with pytest.raises(UsageError, match=f"no token {token}; the vocabulary has 512"):
        session.forced_logits("Hello?", [3, token])


def test_forced_tokens_must_fit_as_well(oracle_bundle, oracle) -> None:
    with Session.open(oracle_bundle.path, max_context=53) as session:
        prompt = oracle.case("text").prompt
        assert session.forced_logits(prompt, [1, 2], raw=True).shape == (3, 512)
        with pytest.raises(ContextLengthError):
            session.forced_logits(prompt, [1, 2, 3], raw=True)


def test_a_session_opens_on_a_bundle_that_is_open_already(oracle_bundle, session: Session) -> None:
    with Session.open(oracle_bundle, max_context=100) as other:
        assert other.max_context == 100
        assert other.bundle is oracle_bundle
        assert np.array_equal(other.logits("Hello?"), session.logits("Hello?"))


def test_the_publishers_cut_is_reproduced_where_it_is_asked_for(altered_bundle, oracle) -> None:
    case = oracle.case("img1_trunc")
    # The answer runs over the stop token, as the oracle's does.
    path = altered_bundle(publisher_max_length=case.facts["truncated_to"], eos_token_ids=(500,))
    with Session.open(path) as session:
        cut = session.logits(case.prompt, case.images, raw=True, truncate_like_publisher=True)
        np.testing.assert_allclose(cut, case["logits"][0, -1], rtol=0, atol=1e-3)
        result = session.generate(case.prompt, case.images, raw=True, truncate_like_publisher=True, max_new_tokens=8)
        assert list(result.token_ids) == case.greedy
        assert result.tokens.prompt + result.tokens.visual == 200
        whole = oracle.case("img1")
        uncut = session.generate(whole.prompt, whole.images, raw=True, max_new_tokens=8)
        assert list(uncut.token_ids) == whole.greedy


def test_an_answer_ends_with_the_stop_token(altered_bundle, oracle) -> None:
    case = oracle.case("text")
    with Session.open(altered_bundle(eos_token_ids=(case.greedy[3],))) as session:
        result = session.generate(case.prompt, raw=True, max_new_tokens=8)
    assert (result.finish_reason, list(result.token_ids)) == ("stop", case.greedy[:4])
    assert result.tokens.answer == 3


def test_a_second_run_gives_the_same_to_the_bit(session: Session, oracle) -> None:
    one, other = oracle.case("img2"), oracle.case("text")
    first = session.logits(one.prompt, one.images, raw=True)
    session.generate(other.prompt, raw=True, max_new_tokens=20)
    assert np.array_equal(session.logits(one.prompt, one.images, raw=True), first)


@pytest.mark.parametrize("chunk_tokens", [1, 7, 64, 1000])
def test_the_size_of_chunks_does_not_change_the_answer(oracle_bundle, session, oracle, chunk_tokens: int) -> None:
    case = oracle.case("img1_think")
    expected = session.logits(case.prompt, case.images, raw=True)
    with Session.open(oracle_bundle.path, chunk_tokens=chunk_tokens) as chunked:
        logits = chunked.logits(case.prompt, case.images, raw=True)
        tokens = chunked.generate(case.prompt, case.images, raw=True, max_new_tokens=8).token_ids
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    assert list(tokens) == case.greedy


def test_two_processes_agree_to_the_bit(oracle_bundle, tmp_path: Path) -> None:
    picture = np.random.default_rng(4).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    np.save(tmp_path / "picture.npy", picture)
    program = (
        "import sys, numpy, phiedge\n"
        "with phiedge.Session.open(sys.argv[1]) as session:\n"
        "    logits = session.logits('What?', [numpy.load(sys.argv[2])])\n"
        "sys.stdout.write(logits.tobytes().hex())\n"
    )
    command = [sys.executable, "-c", program, str(oracle_bundle.path), str(tmp_path / "picture.npy")]
    outputs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 512 * 4 * 2


def test_a_stream_gives_an_event_per_token_and_ends_with_the_result(session: Session, oracle) -> None:
    case = oracle.case("img1_think")
    events = list(session.stream(case.prompt, case.images, raw=True, max_new_tokens=8))
    *tokens, done = events
    assert [event.token_id for event in tokens] == case.greedy
    assert {event.kind for event in tokens} == {"thinking"}
    assert done.kind == "done"
    assert done.result is not None
    assert "".join(event.text for event in tokens) == done.result.thinking
    assert [event.result for event in tokens] == [None] * 8


def test_sampling_repeats_with_its_seed(session: Session, oracle) -> None:
    prompt = oracle.case("text").prompt
    options = {"raw": True, "max_new_tokens": 12, "temperature": 1.5, "top_p": 0.95}
    first = session.generate(prompt, seed=7, **options)
    assert session.generate(prompt, seed=7, **options).token_ids == first.token_ids
    assert session.generate(prompt, seed=8, **options).token_ids != first.token_ids


def test_the_result_names_its_backend_precision_and_times(session: Session) -> None:
    result = session.generate("Hello?", max_new_tokens=3)
    assert (result.backend, result.precision, result.budget) == ("onnxruntime", "fp32", None)
    times = result.timings_ms
    assert times.load > 0
    assert times.first_token is not None
    assert times.preprocess + times.prefill < times.first_token <= times.total
    assert times.first_token + times.decode == pytest.approx(times.total)


def test_pictures_seen_smaller_cost_fewer_tokens(session: Session) -> None:
    picture = np.zeros((480, 640, 3), np.uint8)
    small = session.generate("What?", [picture], max_visual_tokens=50, max_new_tokens=1)
    assert 1 <= small.tokens.visual <= 50


def test_a_prompt_that_does_not_fit_is_refused_with_its_numbers(oracle_bundle, oracle) -> None:
    case = oracle.case("img1")
    with Session.open(oracle_bundle.path, max_context=200) as session:
        with pytest.raises(ContextLengthError, match="49 text tokens and 247 visual tokens, 296 together; .* 200"):
            session.generate(case.prompt, case.images, raw=True)
        assert session.generate("Hello?", max_new_tokens=1).finish_reason == "length"


def test_the_context_is_used_to_its_last_position(oracle_bundle, oracle) -> None:
    case = oracle.case("text")
    with Session.open(oracle_bundle.path, max_context=51) as session:
        np.testing.assert_allclose(session.logits(case.prompt, raw=True), case["logits"][0, -1], rtol=0, atol=1e-3)
        with pytest.raises(ContextLengthError, match="51 positions, which leaves 0 for the answer"):
            session.generate(case.prompt, raw=True)
    with Session.open(oracle_bundle.path, max_context=54) as session:
        result = session.generate(case.prompt, raw=True)
        assert (result.finish_reason, list(result.token_ids)) == ("length", case.greedy[:3])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_context": 1025}, ContextLengthError, "1025 was asked, the bundle was exported for 1024"),
        ({"max_context": 0}, UsageError, "max_context"),
        ({"threads": 0}, UsageError, "threads"),
        ({"chunk_tokens": 0}, UsageError, "chunk_tokens"),
    ],
)
def test_a_session_that_cannot_be_is_refused(oracle_bundle, options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Session.open(oracle_bundle.path, **options)


def test_no_export_is_advised_that_the_model_has_no_positions_for(oracle_bundle) -> None:
    at_most = oracle_bundle.manifest.facts.max_position_embeddings
    with pytest.raises(ContextLengthError) as refused:
        Session.open(oracle_bundle, max_context=at_most + 1)
    assert f"the model itself has {at_most}" in refused.value.remedy
    assert "--max-context" not in refused.value.remedy


def test_a_directory_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        Session.open(tmp_path)


def test_wrong_options_are_refused_before_a_stream_is_read(session: Session) -> None:
    with pytest.raises(UsageError, match="max_new_tokens"):
        session.stream("Hello?", max_new_tokens=0)


@pytest.mark.parametrize(
    ("prompt", "images", "error"),
    [("", [], PromptError), ("<image>", [], PromptError), ("<|im_end|>", [], PromptError), ("Hi", [b"x"], ImageError)],
)
def test_after_a_refused_request_the_session_answers_the_next(session, oracle, prompt, images, error) -> None:
    with pytest.raises(error):
        session.generate(prompt, images)
    case = oracle.case("text")
    assert list(session.generate(case.prompt, raw=True, max_new_tokens=8).token_ids) == case.greedy


def test_a_second_request_meanwhile_is_refused(session: Session, oracle) -> None:
    stream = session.stream("Hello?", max_new_tokens=5)
    next(stream)
    for call in (session.generate, session.logits, lambda prompt: next(session.stream(prompt))):
        with pytest.raises(SessionBusyError, match="another request"):
            call("Hello?")
    assert next(stream).token_id is not None
    stream.close()
    case = oracle.case("text")
    assert list(session.generate(case.prompt, raw=True, max_new_tokens=8).token_ids) == case.greedy


def test_a_stream_that_was_never_read_does_not_occupy_the_session(session: Session) -> None:
    unread = session.stream("Hello?")
    assert session.generate("Hello?", max_new_tokens=1).token_ids
    assert next(unread).token_id is not None


def test_cancel_from_another_thread_ends_the_answer_with_what_there_is(session: Session, oracle) -> None:
    case = oracle.case("img1")
    stream = session.stream(case.prompt, case.images, raw=True, max_new_tokens=100)
    first = [next(stream) for _ in range(3)]
    canceller = threading.Thread(target=session.cancel)
    canceller.start()
    canceller.join()
    result = list(stream)[-1].result
    assert result is not None
    assert result.finish_reason == "cancelled"
    assert list(result.token_ids) == case.greedy[:3] == [event.token_id for event in first]
    again = session.generate(case.prompt, case.images, raw=True, max_new_tokens=8)
    assert list(again.token_ids) == case.greedy


@pytest.mark.parametrize("stage", ["write_part", "prefill_chunks"])
def test_cancel_before_the_first_token_ends_without_one(session, oracle, monkeypatch, stage: str) -> None:
    case = oracle.case("img2")
    entered, cancelled = threading.Event(), threading.Event()
    original = getattr(session._model, stage)

    def held_up(*arguments: object, **options: object) -> object:
        entered.set()
        assert cancelled.wait(30)
        return original(*arguments, **options)

    monkeypatch.setattr(session._model, stage, held_up)
    results = []
    worker = threading.Thread(target=lambda: results.append(session.generate(case.prompt, case.images, raw=True)))
    worker.start()
    assert entered.wait(30)
    session.cancel()
    cancelled.set()
    worker.join(30)
    monkeypatch.undo()
    assert [(result.finish_reason, result.token_ids) for result in results] == [("cancelled", ())]
    assert results[0].timings_ms.first_token is None
    again = session.generate(case.prompt, case.images, raw=True, max_new_tokens=8)
    assert list(again.token_ids) == case.greedy


def test_cancelled_logits_are_an_error_and_not_a_guess(session: Session, monkeypatch) -> None:
    model = session._model
    original = model.prefill

    def cancelled(length: int) -> object:
        session.cancel()
        return original(length)

    monkeypatch.setattr(model, "prefill", cancelled)
    with pytest.raises(SessionError, match="cancelled"):
        session.logits("Hello?")


def test_cancel_without_a_request_does_nothing(session: Session) -> None:
    session.cancel()
    assert session.generate("Hello?", max_new_tokens=2).finish_reason == "length"


def test_a_closed_session_says_so(oracle_bundle) -> None:
    session = Session.open(oracle_bundle.path)
    session.close()
    session.close()
    session.cancel()
    for call in (session.generate, session.logits, lambda prompt: next(session.stream(prompt))):
        with pytest.raises(SessionClosedError, match="closed"):
            call("Hello?")
    with pytest.raises(SessionClosedError), session:
        pass


def test_closing_while_a_stream_is_read_ends_it(oracle_bundle) -> None:
    with Session.open(oracle_bundle.path) as session:
        stream = session.stream("Hello?", max_new_tokens=100)
        next(stream)
    result = list(stream)[-1].result
    assert result is not None
    assert (result.finish_reason, len(result.token_ids)) == ("cancelled", 1)


@pytest.mark.parametrize("precision", ["fp16", "int4"])
def test_other_precisions_run_and_stay_near(export_oracle, oracle, precision: str) -> None:
    case = oracle.case("img2")
    with Session.open(export_oracle(precision).path) as session:
        logits = session.logits(case.prompt, case.images, raw=True)
        result = session.generate(case.prompt, case.images, raw=True, max_new_tokens=3)
    expected = case["logits"][0, -1]
    cosine = logits @ expected / (np.linalg.norm(logits) * np.linalg.norm(expected))
    assert cosine > {"fp16": 0.99999, "int4": 0.9}[precision]
    assert result.precision == precision
