"""Answers from a server: the same requests and results as from a bundle, and every way in which a server fails."""

import base64
import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_lines import assert_refused, tell
from openai_server import DONE, Script, event, finished, serving, text, tokens
from phiedge.bundle import Bundle
from phiedge.errors import (
    BudgetError,
    ContextLengthError,
    PromptError,
    SessionBusyError,
    SessionClosedError,
    SessionError,
    UsageError,
)
from phiedge.runtime.budget import Budget
from phiedge.runtime.chat_template import ChatTemplate
from phiedge.runtime.forms.form import ChoiceForm, Form, JsonForm, PatternForm
from phiedge.runtime.prompt import PromptBuilder
from phiedge.runtime.remote import session as remote
from phiedge.runtime.remote.session import RemoteSession
from phiedge.runtime.session import Session
from phiedge.runtime.tokens import Tokenizer

QUESTION = "What number is on the display?"


@pytest.fixture(scope="module")
def bundle(exported_bundle: Path) -> Bundle:
    return Bundle.open(exported_bundle)


@pytest.fixture(scope="module")
def tokenizer(bundle: Bundle) -> Tokenizer:
    return Tokenizer(bundle.file("tokenizer.json"), bundle.manifest.facts)


def answered(tokenizer: Tokenizer, bundle: Bundle, said: str, **script: Any) -> Script:
    """A script that says a text token by token and stops."""
    ids = [*tokenizer.encode(said), bundle.manifest.facts.eos_token_ids[0]]
    return Script(steps=[*(tokens([one]) for one in ids), finished("stop"), DONE], **script)


def test_an_answer_is_what_the_bundle_itself_would_make_of_the_same_tokens(bundle: Bundle) -> None:
    with Session.open(bundle, max_context=256) as local:
        expected = local.generate(QUESTION, max_new_tokens=40, think="on")
    steps = [*(tokens([one]) for one in expected.token_ids), finished("stop"), DONE]
    with serving(Script(steps=steps)) as server, RemoteSession.connect(server.url, bundle) as session:
        events = list(session.stream(QUESTION, max_new_tokens=40, think="on"))
    found = events[-1].result
    assert found is not None
    assert (found.answer, found.thinking, found.token_ids) == (expected.answer, expected.thinking, expected.token_ids)
    assert found.tokens == expected.tokens
    assert (found.finish_reason, found.backend, found.precision) == ("stop", "vllm", "int4")
    assert "".join(one.text for one in events if one.kind == "thinking") == expected.thinking
    assert 0 < found.timings_ms.first_token <= found.timings_ms.total


def test_a_prompt_of_text_goes_as_the_tokens_of_the_bundle(bundle: Bundle, tokenizer: Tokenizer) -> None:
    script = answered(tokenizer, bundle, "7")
    with serving(script) as server, RemoteSession.connect(server.url, bundle) as session:
        session.generate(QUESTION, think="off", max_new_tokens=9, temperature=0.5, top_p=0.9, seed=3)
    ((path, body),) = script.asked
    template = ChatTemplate.read(bundle.file("chat_template.jinja"))
    prompt = PromptBuilder(template, tokenizer, bundle.manifest.facts).chat(QUESTION, images=0, think="off")
    assert path == "/v1/completions"
    assert body["prompt"] == list(prompt.pieces[0])
    chosen = {key: body[key] for key in ("model", "max_tokens", "temperature", "top_p", "seed", "stream")}
    assert chosen == {"model": "phi", "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 3, "stream": True}
    assert body["skip_special_tokens"] is False
    assert body["return_token_ids"] is True


def test_a_server_that_tells_text_only_gives_the_same_text(bundle: Bundle) -> None:
    pieces = ("<think>", " it is", " red", "</think>", "7", "5 cans")
    with serving(Script(steps=[*map(text, pieces), finished("stop"), DONE], owner="tensorrt_llm")) as server:
        with RemoteSession.connect(server.url, bundle) as session:
            result = session.generate(QUESTION)
    assert (result.thinking, result.answer, result.backend) == ("it is red", "75 cans", "tensorrt_llm")
    ((_, body),) = server.script.asked
    assert "return_token_ids" not in body  # TensorRT-LLM refuses keys that it does not know


def test_pictures_go_as_they_are(bundle: Bundle, tokenizer: Tokenizer) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    script = answered(tokenizer, bundle, "7")
    with serving(script) as server, RemoteSession.connect(server.url, bundle) as session:
        result = session.generate(QUESTION, [pixels], think="on", history=[{"role": "user", "content": "Hi"}])
    ((path, body),) = script.asked
    assert path == "/v1/chat/completions"
    before, question, opening = body["messages"]
    assert before == {"role": "user", "content": "Hi"}
    assert question["content"][0] == {"type": "text", "text": f"<image>\n{QUESTION}"}
    sent = question["content"][1]["image_url"]["url"].removeprefix("data:image/png;base64,")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(sent)))), pixels)
    assert opening == {"role": "assistant", "content": "<think>"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert result.tokens.visual > 0


def test_a_picture_with_a_ceiling_is_sent_smaller(bundle: Bundle, tokenizer: Tokenizer) -> None:
    pixels = np.zeros((256, 256, 3), dtype=np.uint8)
    script = answered(tokenizer, bundle, "7")
    with serving(script) as server, RemoteSession.connect(server.url, bundle) as session:
        session.generate(QUESTION, [pixels], max_visual_tokens=64)
    url = script.asked[0][1]["messages"][-1]["content"][1]["image_url"]["url"]
    assert Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size == (128, 128)


def test_pictures_need_vllm_and_a_prompt_that_is_not_rendered(bundle: Bundle) -> None:
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    with serving(Script(owner="tensorrt_llm")) as server, RemoteSession.connect(server.url, bundle) as session:
        with pytest.raises(UsageError, match="no eyes"):
            session.generate(QUESTION, [picture])
    with serving(Script()) as server, RemoteSession.connect(server.url, bundle) as session:
        with pytest.raises(PromptError, match="renders a prompt with pictures itself"):
            session.generate("<image>", [picture], raw=True)
    assert server.script.asked == []


def test_an_answer_that_is_full_has_its_reason(bundle: Bundle, tokenizer: Tokenizer) -> None:
    script = Script(steps=[tokens(tokenizer.encode("a b c")), finished("length"), DONE])
    with serving(script) as server, RemoteSession.connect(server.url, bundle) as session:
        assert session.generate(QUESTION).finish_reason == "length"


def test_cancelling_closes_the_stream(bundle: Bundle, tokenizer: Tokenizer) -> None:
    hold = threading.Event()
    script = Script(steps=[tokens(tokenizer.encode("red")), hold, *[tokens([5])] * 200, finished("stop"), DONE])
    with serving(script) as server, RemoteSession.connect(server.url, bundle) as session:
        events = session.stream(QUESTION)
        first = next(events)
        assert first.token_id is not None
        canceller = threading.Thread(target=lambda: (script.waiting.wait(10), session.cancel()))
        canceller.start()
        *_, last = events
        canceller.join()
        hold.set()
        assert last.result is not None
        assert (last.result.finish_reason, last.result.answer) == ("cancelled", "red")
        assert script.left.wait(10)  # the server noticed


def test_closing_the_iterator_closes_the_stream_and_frees_the_session(bundle: Bundle, tokenizer: Tokenizer) -> None:
    hold = threading.Event()
    script = Script(steps=[tokens(tokenizer.encode("red")), hold, *[tokens([5])] * 200, finished("stop"), DONE])
    with serving(script) as server, RemoteSession.connect(server.url, bundle) as session:
        events = session.stream(QUESTION)
        next(events)
        with pytest.raises(SessionBusyError):
            session.generate(QUESTION)
        events.close()
        hold.set()
        assert script.left.wait(10)
        session.close()
        with pytest.raises(SessionClosedError):
            session.generate(QUESTION)


def test_a_deadline_cuts_an_answer_that_stalls(bundle: Bundle, tokenizer: Tokenizer) -> None:
    script = Script(steps=[tokens(tokenizer.encode("red")), threading.Event(), finished("stop"), DONE])
    with serving(script) as server, RemoteSession.connect(server.url, bundle) as session:
        result = session.generate(QUESTION, budget=Budget(deadline_ms=250, ttft_ms=250))
    assert (result.finish_reason, result.answer) == ("deadline", "red")
    assert result.outcome is not None
    assert (result.outcome.stopped_by, result.outcome.promised) == ("clock", False)


def test_a_line_that_comes_byte_by_byte_does_not_outlast_the_deadline(bundle: Bundle) -> None:
    with serving(Script(steps=[b"d", b"a", threading.Event()])) as server:
        with RemoteSession.connect(server.url, bundle) as session:
            result = session.generate(QUESTION, budget=Budget(deadline_ms=200))
    assert (result.finish_reason, result.answer) == ("deadline", "")


def test_what_the_last_requests_do_not_allow_is_refused(bundle: Bundle, tokenizer: Tokenizer) -> None:
    script = answered(tokenizer, bundle, "7")
    with serving(script) as server, RemoteSession.connect(server.url, bundle) as session:
        session.generate(QUESTION)
        session._pace.saw(rows=10, first_token_ms=400.0, tokens=11, decode_ms=1000.0)  # 100 ms a token
        with pytest.raises(BudgetError, match="deadline_ms is 900, its last requests make it"):
            session.generate(QUESTION, budget=Budget(deadline_ms=900, answer_tokens=10))
        with pytest.raises(BudgetError, match="ttft_ms is 50"):
            session.generate(QUESTION, budget=Budget(ttft_ms=50))
        assert len(script.asked) == 1
        tried = session.generate(QUESTION, budget=Budget(deadline_ms=900, answer_tokens=10, on_infeasible="attempt"))
        kept = session.generate(QUESTION, budget=Budget(deadline_ms=60_000))
    assert tried.outcome is not None
    assert kept.outcome is not None
    assert (tried.outcome.promised, kept.outcome.promised) == (False, True)
    assert kept.outcome.slack_ms > 0


@pytest.mark.parametrize(
    "limits", [{"think_tokens": 5}, {"deadline_ms": 1000, "on_infeasible": "degrade"}, {"think_ms": 10}]
)
def test_what_no_server_can_keep_is_refused(bundle: Bundle, limits: dict[str, Any]) -> None:
    with serving(Script()) as server, RemoteSession.connect(server.url, bundle) as session:
        with pytest.raises(UsageError, match="cannot be kept over a server"):
            session.generate(QUESTION, budget=Budget(**limits))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([text("red")], "is broken: it ended in the middle of the answer"),
        ([text("red"), DONE], "ended after . tokens without saying why"),
        ([b"data: {half\n\n"], "it sent what is not JSON"),
        ([event({"error": {"message": "CUDA error"}})], "failed: CUDA error"),
        ([finished("abort"), DONE], "ended the answer with 'abort'"),
        ([event({"choices": [{"delta": {"reasoning_content": "hm"}}]})], "takes the thinking out of the answer"),
        ([text("red"), finished("stop", prompt_tokens=3), DONE], "the server read 3 tokens, .* were sent"),
        ([b"x" * (1 << 20), b"x" * 70_000], "a line of over"),
    ],
    ids=["half", "no reason", "no json", "error", "abort", "parser", "other tokens", "endless line"],
)
def test_a_server_that_fails_in_the_middle_is_named(bundle: Bundle, steps: list[bytes], message: str) -> None:
    with serving(Script(steps=steps)) as server, RemoteSession.connect(server.url, bundle) as session:
        with pytest.raises(SessionError, match=message):
            session.generate(QUESTION)
        server.script.steps = [text("7"), finished("stop"), DONE]
        assert session.generate(QUESTION).answer == "7"  # and the next request is answered


def test_a_server_that_stalls_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "STALL_MS", 100.0)
    with serving(Script(steps=[text("red"), threading.Event()])) as server:
        with RemoteSession.connect(server.url, bundle) as session:
            with pytest.raises(SessionError, match="sent nothing for 0.1 s"):
                session.generate(QUESTION)


@pytest.mark.parametrize(
    ("status", "error", "kind", "message"),
    [
        (400, "maximum context length is 64 tokens", ContextLengthError, "has no room for this"),
        (400, "extra fields not permitted", SessionError, r"refused the request \(400\): extra fields"),
        (503, "loading", SessionError, r"is busy \(503\): loading"),
        (500, "engine died", SessionError, r"refused the request \(500\): engine died"),
    ],
)
def test_a_refusal_is_told(bundle: Bundle, status: int, error: str, kind: type[Exception], message: str) -> None:
    with serving(Script(status=status, error=error)) as server, RemoteSession.connect(server.url, bundle) as session:
        with pytest.raises(kind, match=message):
            session.generate(QUESTION)


ITEM = JsonForm(
    {
        "type": "object",
        "properties": {"label": {"type": "string"}, "count": {"type": "integer"}},
        "required": ["label", "count"],
        "additionalProperties": False,
    }
)


@pytest.mark.parametrize(
    ("form", "vllm", "tensorrt_llm", "said", "value"),
    [
        (
            ITEM,
            {"structured_outputs": {"json": ITEM.schema}},
            {"response_format": {"type": "json", "schema": ITEM.schema}},
            '{"label":"PAY",\n "count": 3}',
            {"label": "PAY", "count": 3},
        ),
        (
            ChoiceForm(["yes.", "no"]),
            {"structured_outputs": {"choice": ["yes.", "no"]}},
            {"response_format": {"type": "regex", "regex": "yes\\.|no"}},
            "no",
            "no",
        ),
        (
            PatternForm("[0-9]{2}"),
            {"structured_outputs": {"regex": "[0-9]{2}"}},
            {"response_format": {"type": "regex", "regex": "[0-9]{2}"}},
            "75",
            "75",
        ),
    ],
    ids=["schema", "choice", "pattern"],
)
def test_a_form_goes_to_the_server_and_its_answer_is_checked(
    bundle: Bundle, tokenizer: Tokenizer, form: Form, vllm: object, tensorrt_llm: object, said: str, value: object
) -> None:
    for owner, keys in (("vllm", vllm), ("tensorrt_llm", tensorrt_llm)):
        script = answered(tokenizer, bundle, said, owner=owner)
        with serving(script) as server, RemoteSession.connect(server.url, bundle) as session:
            result = session.generate(QUESTION, think="off", form=form)
        assert (result.answer, result.value, result.made_up) == (said, value, "")
        ((_, body),) = script.asked
        assert body.items() >= keys.items()


def test_a_form_is_compiled_before_the_first_request(bundle: Bundle) -> None:
    with serving(Script()) as server, RemoteSession.connect(server.url, bundle) as session:
        assert session.compile(ChoiceForm(["yes", "no"])) >= 1
        assert session.compile(ITEM) > 5
    assert server.script.asked == []


def test_a_form_that_the_server_ignored_is_an_error(bundle: Bundle, tokenizer: Tokenizer) -> None:
    for owner, remedy in (("vllm", "0.11"), ("tensorrt_llm", "guided_decoding_backend")):
        script = answered(tokenizer, bundle, "It is red.", owner=owner)
        with serving(script) as server, RemoteSession.connect(server.url, bundle) as session:
            with pytest.raises(SessionError, match="did not keep to the choice: it answered 'It is red.'") as caught:
                session.generate(QUESTION, think="off", form=ChoiceForm(["red", "green"]))
        assert remedy in caught.value.remedy


def test_an_answer_that_was_cut_is_completed(bundle: Bundle, tokenizer: Tokenizer) -> None:
    script = Script(steps=[tokens(tokenizer.encode('{"label": "PA')), finished("length"), DONE])
    with serving(script) as server, RemoteSession.connect(server.url, bundle) as session:
        events = list(session.stream(QUESTION, think="off", form=ITEM))
    result = events[-1].result
    assert (result.value, result.made_up) == ({"label": "PA", "count": 0}, '", "count": 0')
    assert "".join(event.text for event in events) == result.answer


def test_an_answer_that_the_deadline_cut_before_it_began_has_its_form_and_no_value(
    bundle: Bundle, tokenizer: Tokenizer
) -> None:
    hold = threading.Event()
    script = Script(steps=[tokens(tokenizer.encode('{"')), hold, finished("stop"), DONE])
    with serving(script) as server, RemoteSession.connect(server.url, bundle) as session:
        result = session.generate(QUESTION, think="off", form=ITEM, budget=Budget(deadline_ms=400))
    assert (result.finish_reason, result.value) == ("deadline", None)
    assert result.answer == result.made_up == '{"label": "", "count": 0}'


def test_a_form_after_a_thinking_is_refused(bundle: Bundle) -> None:
    with serving(Script()) as server, RemoteSession.connect(server.url, bundle) as session:
        for think in ("auto", "on"):
            with pytest.raises(UsageError, match="think in it"):
                session.generate(QUESTION, think=think, form=ITEM)
    assert server.script.asked == []


def test_the_command_line_asks_a_server(
    bundle: Bundle, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(answered(tokenizer, bundle, "75")) as server:
        told = tell(capsys, "run", bundle.path, "-p", QUESTION, "--server", server.url, "--json").json
        message = assert_refused(
            capsys, "run", bundle.path, "-p", QUESTION, "--server", server.url, "--threads", "1", code=2
        )
    assert (told["answer"], told["backend"], told["finish_reason"]) == ("75", "vllm", "stop")
    assert message.startswith("--threads is of an engine in this process")


def test_no_server_and_a_wrong_one_are_told(bundle: Bundle) -> None:
    with serving(Script()) as server:
        url = server.url
    with pytest.raises(SessionError, match="no server answers"):
        RemoteSession.connect(url, bundle)
    with pytest.raises(UsageError, match="is not a server's address"):
        RemoteSession.connect("127.0.0.1:8000", bundle)
    with serving(Script(models=("a", "b"))) as server:
        with pytest.raises(UsageError, match="serves a, b"):
            RemoteSession.connect(server.url, bundle)
        with pytest.raises(UsageError, match="does not serve 'c'"):
            RemoteSession.connect(server.url, bundle, model="c")
        RemoteSession.connect(server.url, bundle, model="b").close()
    with serving(Script(owner="someone")) as server, pytest.raises(UsageError, match="phiedge knows vllm"):
        RemoteSession.connect(server.url, bundle)


def test_the_servers_own_length_bounds_the_context(bundle: Bundle, tokenizer: Tokenizer) -> None:
    script = answered(tokenizer, bundle, "7", max_model_len=40)
    with serving(script) as server, RemoteSession.connect(server.url, bundle) as session:
        assert session.max_context == 40
        with pytest.raises(ContextLengthError, match="the context has 40 positions"):
            session.generate(QUESTION)
