from collections.abc import Iterator
from pathlib import Path

import pytest

from command_lines import assert_refused, tell
from phiedge.bundle import Bundle
from phiedge.reference.scenes import draw_scene
from phiedge.runtime.result import Event, FinishReason, Result, Timings, TokenCounts
from phiedge.runtime.session import Session

TIMINGS = Timings(load=80.0, preprocess=2.0, vision=5.0, prefill=10.0, first_token=17.0, decode=8.0, total=25.0)


def result(finish_reason: FinishReason = "stop") -> Result:
    return Result(
        answer="blue",
        thinking="It is.",
        finish_reason=finish_reason,
        token_ids=(5, 6, 7, 8, 9),
        tokens=TokenCounts(prompt=20, visual=80, thinking=2, answer=1),
        timings_ms=TIMINGS,
        backend="onnxruntime",
        precision="int4",
    )


def says(monkeypatch: pytest.MonkeyPatch, *events: Event) -> None:
    """Makes every session say the same."""

    def stream(*_: object, **__: object) -> Iterator[Event]:
        return iter(events)

    monkeypatch.setattr(Session, "stream", stream)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    draw_scene(1, size=(320, 176), place="kiosk").picture.save(tmp_path / "kiosk.png")
    return tmp_path / "kiosk.png"


def test_an_answer_as_json_has_everything_that_was_promised(
    exported_bundle: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tell(capsys, "run", exported_bundle, "--image", picture, "--prompt", "How many buttons are there?", "--json")
    assert (told.code, told.err) == (0, "")
    answer = told.json
    assert answer.keys() == {
        "answer",
        "thinking",
        "finish_reason",
        "token_ids",
        "tokens",
        "timings_ms",
        "backend",
        "precision",
        "value",
        "made_up",
        "budget",
        "plan",
        "outcome",
    }
    assert answer["tokens"].keys() == {"prompt", "visual", "thinking", "answer", "reused", "forced"}
    assert answer["timings_ms"].keys() == {"load", "preprocess", "vision", "prefill", "first_token", "decode", "total"}
    assert answer["tokens"]["visual"] == 220, "20 by 11 patches of 16 pixels"
    assert answer["finish_reason"] in ("stop", "length")
    assert (answer["backend"], answer["precision"]) == ("onnxruntime", "int4")
    assert (answer["budget"], answer["plan"], answer["outcome"]) == (None, None, None)


def test_the_same_question_has_the_same_answer_in_another_session(
    exported_bundle: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("run", exported_bundle, "-i", picture, "-p", "How many buttons are there?", "--json")
    assert tell(capsys, *words).json["token_ids"] == tell(capsys, *words).json["token_ids"]


def test_a_person_reads_the_answer_and_then_where_the_time_went(
    exported_bundle: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("-i", picture, "-p", "How many buttons are there?", "--think", "off")
    answer = tell(capsys, "run", exported_bundle, *words, "--json").json["answer"]
    told = tell(capsys, "run", exported_bundle, *words)
    head, table = told.out.split("\n\n")
    assert (told.code, head) == (0, answer)
    assert [line.split()[0] for line in table.splitlines()] == [
        "ms",
        "load",
        "preprocess",
        "vision",
        "prefill",
        "first",
        "decode",
        "total",
    ]


def test_thinking_goes_to_stderr_and_the_answer_to_stdout(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    thought = (Event(kind="thinking", text="It "), Event(kind="thinking", text="is."))
    answered = (Event(kind="answer", text="bl"), Event(kind="answer", text="ue"))
    says(monkeypatch, *thought, *answered, Event(kind="done", result=result()))
    told = tell(capsys, "run", tiny_bundle.path, "-p", "Which colour?")
    assert told.err == "It is.\n"
    assert told.out.startswith("blue\n\n")


def test_times_stand_beside_what_they_were_spent_on(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    says(monkeypatch, Event(kind="done", result=result()))
    rows = {
        line[:12].strip(): line[12:].split()
        for line in tell(capsys, "run", tiny_bundle.path, "-p", "?").out.splitlines()
    }
    assert rows["vision"] == ["5.0", "80", "visual", "tokens"]
    assert rows["prefill"] == ["10.0", "100", "tokens,", "10,000", "per", "second"]
    assert rows["decode"] == ["8.0", "4", "steps,", "2.00", "ms", "each"]


@pytest.mark.parametrize(
    ("finish_reason", "note"),
    [
        ("stop", ""),
        ("length", "note: the answer is cut: it reached --max-new-tokens, or the end of the context\n"),
        ("cancelled", "note: the answer is cut: it was cancelled\n"),
    ],
)
def test_an_answer_that_was_cut_says_so(
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    finish_reason: FinishReason,
    note: str,
) -> None:
    says(monkeypatch, Event(kind="done", result=result(finish_reason)))
    assert tell(capsys, "run", tiny_bundle.path, "-p", "?").err == note


def test_what_a_model_says_does_not_steer_the_terminal(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b]0;title\x07\x9b2Jé\ttab\nline"
    says(
        monkeypatch,
        Event(kind="thinking", text=evil),
        Event(kind="answer", text=evil),
        Event(kind="done", result=result()),
    )
    told = tell(capsys, "run", tiny_bundle.path, "-p", "?")
    shown = "\ufffd]0;title\ufffd\ufffd2Jé\ttab\nline"
    assert told.out.startswith(shown)
    assert told.err.startswith(shown)


def test_pictures_go_in_the_order_in_which_they_are_given(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[list[Path]] = []

    def stream(session: Session, prompt: str, images: list[Path], **_: object) -> Iterator[Event]:
        given.append(images)
        return iter([Event(kind="done", result=result())])

    monkeypatch.setattr(Session, "stream", stream)
    assert tell(capsys, "run", tiny_bundle.path, "-p", "?", "-i", "b.png", "--image", "a.png").code == 0
    assert given == [[Path("b.png"), Path("a.png")]]


def test_a_seed_repeats_a_drawn_answer(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    def drawn(seed: int) -> list[int]:
        words = ("-p", "hello", "--temperature", 2, "--top-p", 0.9, "--seed", seed, "--max-new-tokens", 12, "--json")
        token_ids: list[int] = tell(capsys, "run", tiny_bundle.path, *words).json["token_ids"]
        return token_ids

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_the_ceiling_on_tokens_is_kept(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    answer = tell(capsys, "run", tiny_bundle.path, "-p", "hello", "--max-new-tokens", 3, "--json").json
    assert len(answer["token_ids"]) <= 3


def test_a_smaller_context_is_kept(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("run", tiny_bundle.path, "-p", "hello", "--max-context", 50, "--json")
    answer = tell(capsys, *words).json
    assert answer["tokens"]["prompt"] + len(answer["token_ids"]) <= 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--think", "maybe"), "there is no think mode 'maybe'"),
        (("--temperature", "-1"), "temperature must be 0"),
        (("--top-p", "0.5"), "top_p 0.5 has no effect at temperature 0"),
        (("--max-new-tokens", "0"), "max_new_tokens must be at least 1, not 0"),
        (("--max-context", "0"), "max_context must be at least 1, not 0"),
        (("--seed", "-1", "--temperature", "1"), "seed must not be negative"),
    ],
)
def test_options_that_make_no_sense_are_usage(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    told = tell(capsys, "run", tiny_bundle.path, "-p", "hello", *options)
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith(f"error: {message}")


def test_more_context_than_the_bundle_has_is_refused(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    message = assert_refused(capsys, "run", tiny_bundle.path, "-p", "hello", "--max-context", 9000)
    assert message == "max_context 9000 was asked, the bundle was exported for 8192"


def test_the_backend_is_what_was_asked_for_and_is_told(
    exported_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", exported_bundle, "--prompt", "Hello", "--max-new-tokens", "1", "--backend", "onnxruntime"]
    assert tell(capsys, *command, "--json").json["backend"] == "onnxruntime"
    assert "once per session, on onnxruntime" in tell(capsys, *command).out


def test_a_backend_that_does_not_exist_is_refused(exported_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", exported_bundle, "--prompt", "Hello", "--backend", "onnxruntime-cude"]
    assert assert_refused(capsys, *command, code=2) == "there is no backend 'onnxruntime-cude'"


def test_a_deadline_without_a_profile_is_kept_and_says_that_nothing_was_promised(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("run", tiny_bundle.path, "-p", "hello", "--think", "off", "--max-new-tokens", 3)
    told = tell(capsys, *words, "--deadline-ms", 60_000, "--explain")
    assert told.code == 0
    assert "note: nothing was promised, as the bundle has no latency profile of this machine" in told.err
    assert "keeps room for 3 tokens of the answer" in told.out
    assert "before its deadline" in told.out
    answer = tell(capsys, *words, "--deadline-ms", 60_000, "--json").json
    assert answer["budget"]["deadline_ms"] == 60_000
    assert answer["outcome"]["overrun_ms"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--deadline-ms", "0"), "deadline_ms must be a positive number, not 0.0"),
        (("--deadline-ms", "nan"), "deadline_ms must be a positive number, not nan"),
        (("--deadline-ms", "-5"), "deadline_ms must be a positive number, not -5.0"),
        (("--answer-tokens", "5"), "a budget needs at least one limit"),
        (("--ttft-ms", "5", "--answer-tokens", "5"), "answer_tokens 5 are kept out of a deadline, and there is none"),
        (("--token-ms", "0"), "token_ms must be a positive number, not 0.0"),
        (("--think-tokens", "0"), "think_tokens must be a whole number of at least 1, not 0"),
        (("--think-tokens", "5", "--think", "off"), "think_tokens 5 has no effect on think='off'"),
        (("--deadline-ms", "5", "--min-visual-tokens", "64"), "min_visual_tokens 64 has no effect"),
        (("--deadline-ms", "5", "--on-infeasible", "hope"), "on_infeasible must be one of refuse, degrade, attempt"),
    ],
)
def test_budgets_that_make_no_sense_are_usage(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    told = tell(capsys, "run", tiny_bundle.path, "-p", "hello", *options)
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith(f"error: {message}")


def test_limits_on_a_token_and_on_the_thinking_are_in_the_budget_of_the_result(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("run", tiny_bundle.path, "-p", "hello", "--think", "on", "--max-new-tokens", 12, "--json")
    answer = tell(capsys, *words, "--token-ms", 5000, "--think-tokens", 3).json
    told = {name: answer["budget"][name] for name in ("deadline_ms", "token_ms", "think_tokens", "think")}
    assert told == {"deadline_ms": None, "token_ms": 5000, "think_tokens": 3, "think": "on"}
    assert answer["tokens"]["thinking"] <= 3


def test_there_is_nothing_to_explain_without_a_budget(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    message = assert_refused(capsys, "run", tiny_bundle.path, "-p", "hello", "--explain", code=2)
    assert message == "--explain tells how a budget was met, and there is none"


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (["--choice", "3", "--choice", "several"], str),
        (["--pattern", "[0-9]{1,2}"], str),
        (["--box"], list),
        (["--point"], list),
    ],
)
def test_an_answer_of_a_form_brings_its_value(
    exported_bundle: Path, picture: Path, capsys: pytest.CaptureFixture[str], form: list[str], expected: type
) -> None:
    command = ["run", exported_bundle, "-i", picture, "-p", "How many buttons are there?", "--json", *form]
    told = tell(capsys, *command)
    assert told.code == 0
    assert isinstance(told.json["value"], expected)


def test_an_answer_by_a_schema_is_ended_where_its_tokens_are(
    exported_bundle: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "properties": {"count": {"type": "integer"}, "note": {"type": "string"}},'
                      ' "required": ["count", "note"], "additionalProperties": false}')  # fmt: skip
    command = ["run", exported_bundle, "-i", picture, "-p", "How many?", "--schema", schema, "--max-new-tokens", "40"]
    told = tell(capsys, *command, "--think", "off", "--json")
    assert set(told.json["value"]) == {"count", "note"}
    assert len(told.json["token_ids"]) <= 40


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (["--box", "--choice", "a"], "two forms"),
        (["--choice", ""], "empty"),
        (["--pattern", ""], "regular expression"),
        (["--pattern", "("], "unclosed group"),
        (["--schema", "no such file"], "there is no file no such file"),
        (["--box"], "--box names a place in the picture, and there is none"),
        (["--point"], "give the picture: --image FILE"),
    ],
)
def test_a_form_that_is_none_is_refused(
    exported_bundle: Path, capsys: pytest.CaptureFixture[str], form: list[str], message: str
) -> None:
    told = tell(capsys, "run", exported_bundle, "-p", "Where?", *form)
    assert told.code == 2
    assert message in told.err
