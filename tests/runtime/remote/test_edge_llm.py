"""Edge-LLM's runtime under the surface of `Session`, with a stand-in of its native module."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime import NativeModule
from phiedge.bundle import Bundle, FileEntry
from phiedge.engines.engine_record import EngineRecord
from phiedge.engines.engine_writer import EngineWriter
from phiedge.errors import BundleError, SessionError, ToolError, UsageError
from phiedge.runtime.budget import Budget
from phiedge.runtime.forms.form import ChoiceForm
from phiedge.runtime.remote import edge_llm
from phiedge.runtime.remote.edge_llm import EdgeLlmSession, load_native
from phiedge.runtime.tokens import Tokenizer

QUESTION = "What number is on the display?"


@pytest.fixture(scope="module")
def bundle(exported_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The reference model's bundle with engines of Edge-LLM, as far as files go."""
    path = tmp_path_factory.mktemp("edge") / "bundle"
    shutil.copytree(exported_bundle, path)
    opened = Bundle.open(path)

    def record(files: dict[str, FileEntry]) -> EngineRecord:
        return EngineRecord(
            backend="edge-llm",
            phiedge_version="0.1.0",
            tools={},
            machine={},
            options={},
            source={},
            vision="checks.json",
            decoder="checks.json",
            goldens=None,
            files=files,
        )

    with EngineWriter(opened, "edge-llm") as writer:
        (writer.path / "checks.json").write_text(json.dumps({"commands": []}))
        engine = writer.commit(record)
    for name in ("llm.engine", "visual/visual.engine"):
        (engine.path / "engines" / name).parent.mkdir(parents=True, exist_ok=True)
        (engine.path / "engines" / name).touch()
    return opened


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[NativeModule]:
    made = NativeModule()
    monkeypatch.setattr(edge_llm, "load_native", lambda: made)
    yield made
    made.returns.set()


def ids(bundle: Bundle, said: str) -> list[int]:
    tokenizer = Tokenizer(bundle.file("tokenizer.json"), bundle.manifest.facts)
    return [*tokenizer.encode(said), bundle.manifest.facts.eos_token_ids[0]]


def test_an_answer_comes_token_by_token_from_its_channel(bundle: Bundle, module: NativeModule) -> None:
    module.tokens = ids(bundle, "seven")
    with EdgeLlmSession.open(bundle) as session:
        result = session.generate(QUESTION, think="off")
    assert (result.answer, result.finish_reason, result.backend) == ("seven", "stop", "edge-llm")
    assert result.token_ids == tuple(module.tokens)
    (request,) = module.requests
    assert (request.top_k, request.temperature, request.apply_chat_template) == (1, 1.0, False)
    assert module.opened[0][:2] == (str(bundle.path / "engines" / "edge-llm" / "engines"),) * 2


def test_a_picture_goes_at_the_size_that_the_model_sees_and_is_not_resized(
    bundle: Bundle, module: NativeModule
) -> None:
    module.tokens = ids(bundle, "one")
    pixels = np.random.default_rng(0).integers(0, 255, (200, 330, 3)).astype(np.uint8)
    with EdgeLlmSession.open(bundle) as session:
        result = session.generate(QUESTION, [pixels], think="off")
    ((one,),) = (request.requests for request in module.requests)
    (image,) = one.image_buffers
    shown = Image.open(io.BytesIO(image.data))
    assert image.do_resize is False
    assert (shown.width % 16, shown.height % 16) == (0, 0)
    assert result.tokens.visual == shown.width * shown.height // 256
    (content,) = one.messages[0].contents
    assert content.content.count("<image>") == 1
    assert content.content.startswith("<|im_start|>system")


def test_a_tokenizer_that_reads_other_tokens_is_found(bundle: Bundle, module: NativeModule) -> None:
    module.tokens, module.prompt_tokens = ids(bundle, "one"), 3
    with EdgeLlmSession.open(bundle) as session:
        with pytest.raises(SessionError, match="the server read 3 tokens"):
            session.generate(QUESTION)


def test_a_deadline_cancels_between_two_tokens(bundle: Bundle, module: NativeModule) -> None:
    module.tokens, module.reason = ids(bundle, "one")[:1], None
    with EdgeLlmSession.open(bundle, budget=Budget(deadline_ms=300)) as session:
        result = session.generate(QUESTION, think="off")
    assert result.finish_reason == "deadline"
    assert result.token_ids == tuple(module.tokens)
    assert module.requests[0].stream_channels[0].is_cancelled()


def test_a_call_that_does_not_come_back_refuses_the_next(bundle: Bundle, module: NativeModule) -> None:
    module.hangs, module.reason = True, None
    with EdgeLlmSession.open(bundle, budget=Budget(deadline_ms=150)) as session:
        assert session.generate(QUESTION, think="off").finish_reason == "deadline"
        with pytest.raises(SessionError, match="has not come back from the request before"):
            session.generate(QUESTION, think="off")


@pytest.mark.parametrize("failure", ["raises", "reports"])
def test_a_failure_of_its_own_is_told(bundle: Bundle, module: NativeModule, failure: str) -> None:
    module.tokens, module.reason = ids(bundle, "one"), "ERROR"
    module.error = "out of memory" if failure == "raises" else None
    with EdgeLlmSession.open(bundle) as session:
        with pytest.raises(SessionError, match="out of memory" if failure == "raises" else "ended the answer: ERROR"):
            session.generate(QUESTION, think="off")


def test_a_form_is_refused(bundle: Bundle, module: NativeModule) -> None:
    with EdgeLlmSession.open(bundle) as session:
        with pytest.raises(UsageError, match="takes no form of an answer"):
            session.generate(QUESTION, think="off", form=ChoiceForm(["yes", "no"]))
    assert module.requests == []


def test_engines_that_were_not_built_are_missed(bundle: Bundle, module: NativeModule, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="has no llm.engine") as caught:
        EdgeLlmSession.open(bundle, engines=tmp_path)
    assert "checks.json" in str(caught.value.remedy)


def test_a_bundle_without_its_files_is_refused(plain_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="has nothing for edge-llm"):
        EdgeLlmSession.open(plain_bundle)


def test_a_machine_without_its_package_is_told_so() -> None:
    with pytest.raises(ToolError, match="tensorrt-edgellm is not installed here"):
        load_native()
