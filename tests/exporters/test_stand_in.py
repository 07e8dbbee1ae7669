import json
from pathlib import Path

import pytest

from phiedge.errors import ConfigError
from phiedge.exporters.companions import TokenIds
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.stand_in import TEMPLATE, stand_in_tokenizer
from phiedge.exporters.tokenizer import BOS, END_THINK, EOS, NOTHINK, PAD, THINK, TURN_SEPARATOR, TURN_START
from phiedge.runtime.chat_template import ChatTemplate
from phiedge.runtime.prompt import PromptBuilder
from phiedge.runtime.tokens import Detokeniser, Tokenizer
from published import PUBLISHED_CONFIG

PUBLISHED_TOKENS = TokenIds(bos=100257, eos=(100265,), pad=100349)
VOCABULARY = 100352
PUBLISHED_IDS = {
    BOS: 100257,
    TURN_START: 100264,
    EOS: 100265,
    TURN_SEPARATOR: 100266,
    NOTHINK: 100348,
    PAD: 100349,
    THINK: 100350,
    END_THINK: 100351,
}


def ids(tokenizer: dict[str, object]) -> dict[str, int]:
    added = tokenizer["added_tokens"]
    assert isinstance(added, list)
    return {entry["content"]: entry["id"] for entry in added}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, ModelConfig]:
    path: Path = tmp_path_factory.mktemp("stand-in") / "tokenizer.json"
    made = stand_in_tokenizer(PUBLISHED_TOKENS, VOCABULARY)
    path.write_text(json.dumps(made), encoding="utf-8")
    config = ModelConfig.from_json(PUBLISHED_CONFIG, tokenizer=made)
    return Tokenizer(path, config.facts()), config


def test_the_published_configuration_gives_the_published_ids() -> None:
    assert ids(stand_in_tokenizer(PUBLISHED_TOKENS, VOCABULARY)) == PUBLISHED_IDS


def test_every_id_is_taken_once() -> None:
    made = stand_in_tokenizer(PUBLISHED_TOKENS, VOCABULARY)
    model = made["model"]
    assert isinstance(model, dict)
    assert sorted(model["vocab"].values()) == list(range(VOCABULARY))


@pytest.mark.parametrize("text", ["How many?", "Größe: 3 µm\n\tok", "漢字 🦉", "\x00\x7f\x1b[31m", "<image>"])
def test_any_text_goes_there_and_back(opened: tuple[Tokenizer, ModelConfig], text: str) -> None:
    tokenizer, _ = opened
    decoder = Detokeniser(tokenizer)
    assert "".join(decoder.push(token) for token in tokenizer.encode(text)) + decoder.flush() == text


def test_every_id_but_the_control_tokens_spells_something(opened: tuple[Tokenizer, ModelConfig]) -> None:
    tokenizer, _ = opened
    silent = [token for token in range(VOCABULARY) if not tokenizer.bytes_of(token)]
    assert silent == sorted(PUBLISHED_IDS[content] for content in (BOS, TURN_START, EOS, TURN_SEPARATOR, NOTHINK, PAD))


def test_it_makes_prompts_with_its_template(opened: tuple[Tokenizer, ModelConfig]) -> None:
    tokenizer, config = opened
    prompt = PromptBuilder(ChatTemplate(TEMPLATE), tokenizer, config.facts()).chat("What?", images=1, think="on")
    before, after = prompt.pieces
    assert before[0] == PUBLISHED_IDS[TURN_START]
    assert after[-1] == PUBLISHED_IDS[THINK]
    assert PUBLISHED_IDS[EOS] in after
    assert prompt.starts_thinking


@pytest.mark.parametrize(
    ("tokens", "vocabulary"),
    [
        (TokenIds(bos=0, eos=(1,), pad=2), 264),  # no room before bos, eos and pad beside each other
        (TokenIds(bos=263, eos=(262,), pad=261), 264),
        (TokenIds(bos=300, eos=(300, 10), pad=20), 400),  # a stop id that is bos is not the end of a turn
    ],
)
def test_ids_without_room_beside_the_given_ones_are_found_elsewhere(tokens: TokenIds, vocabulary: int) -> None:
    made = stand_in_tokenizer(tokens, vocabulary)
    model = made["model"]
    assert isinstance(model, dict)
    assert sorted(model["vocab"].values()) == list(range(vocabulary))
    assert len(set(ids(made).values())) == 8
    assert ids(made)[BOS] == tokens.bos
    assert ids(made)[EOS] in tokens.eos


def test_a_vocabulary_without_room_for_every_byte_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs 264 ids, config.json has vocab_size 263") as caught:
        stand_in_tokenizer(TokenIds(bos=0, eos=(1,), pad=2), 263)
    assert "tokenizer.json" in str(caught.value.remedy)


def test_ids_that_are_the_same_are_refused() -> None:
    with pytest.raises(ConfigError, match="the same id: 7, 8, 7"):
        stand_in_tokenizer(TokenIds(bos=7, eos=(8,), pad=7), 300)
