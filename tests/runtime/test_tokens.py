import json
from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from phiedge.errors import BundleError
from phiedge.runtime.tokens import Detokeniser, Tokenizer

ORACLE = Path(__file__).parents[1] / "oracle" / "tiny"
TOKENIZER = ORACLE / "tokenizer.json"


def streamed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    detokeniser = Detokeniser(tokenizer)
    return [*(detokeniser.push(token) for token in ids), detokeniser.flush()]


@given(st.lists(st.integers(0, 511), max_size=40))
def test_any_tokens_stream_to_what_the_library_decodes_at_once(tokenizer, ids: list[int]) -> None:
    whole = tokenizers.Tokenizer.from_file(str(TOKENIZER)).decode(ids, skip_special_tokens=True)
    assert "".join(streamed(tokenizer, ids)) == whole


@given(st.text())
def test_text_survives_the_way_to_tokens_and_back(tokenizer, text: str) -> None:
    assert "".join(streamed(tokenizer, tokenizer.encode(text))) == text


def test_a_character_of_several_tokens_comes_whole_and_once(tokenizer) -> None:
    parts = streamed(tokenizer, tokenizer.encode("é€🤖"))
    assert parts == ["", "é", "", "", "€", "", "", "", "🤖", ""]


def test_half_a_character_is_flushed_as_a_replacement(tokenizer) -> None:
    assert streamed(tokenizer, tokenizer.encode("a€")[:-1]) == ["a", "", "", "\ufffd"]


def test_special_tokens_are_no_text_and_thinking_marks_are(tokenizer, facts) -> None:
    assert tokenizer.bytes_of(facts.eos_token_ids[0]) == b""
    assert tokenizer.bytes_of(facts.think_token_id) == b"<think>"


def test_an_id_without_a_token_is_no_text(tokenizer, facts) -> None:
    assert tokenizer.bytes_of(facts.vocab_size - 1) == b""


def test_white_space_beside_turn_marks_is_swallowed(tokenizer, facts) -> None:
    end = facts.eos_token_ids[0]
    assert tokenizer.encode("<|im_end|>\n<|im_end|>") == [end, end]
    assert len(tokenizer.encode("<think>\n")) == 2


def changed(tmp_path: Path, **entries: object) -> Path:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(TOKENIZER.read_text()) | entries))
    return path


def test_a_truncation_written_into_the_file_does_not_cut_prompts(tmp_path: Path, facts) -> None:
    cut = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    assert len(Tokenizer(changed(tmp_path, truncation=cut), facts).encode("0123456789")) == 10


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, facts) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(BundleError, match="is not a tokenizer"):
        Tokenizer(path, facts)


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path, facts) -> None:
    decoder = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    with pytest.raises(BundleError, match="decodes by WordPiece"):
        Tokenizer(changed(tmp_path, decoder=decoder), facts)


def test_more_tokens_than_embeddings_are_refused_with_both_numbers(facts) -> None:
    with pytest.raises(BundleError, match=r"token 508, the model has embeddings for 508"):
        Tokenizer(TOKENIZER, replace(facts, vocab_size=509 - 1, end_think_token_id=507))


def test_facts_that_name_an_ordinary_token_as_the_thinking_mark_are_refused(facts) -> None:
    with pytest.raises(BundleError, match="think_token_id 42 is not among its added tokens"):
        Tokenizer(TOKENIZER, replace(facts, think_token_id=42))
