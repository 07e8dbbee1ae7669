import copy
from collections.abc import Callable
from typing import Any

import pytest

from fake_checkpoints import fake_tokenizer, token_id
from phiedge.errors import CheckpointError
from phiedge.exporters.tokenizer import TokenizerFacts


def token(tokenizer: dict[str, Any], content: str) -> dict[str, Any]:
    return next(entry for entry in tokenizer["added_tokens"] if entry["content"] == content)


def test_ids_are_found_by_content() -> None:
    facts = TokenizerFacts.from_json(fake_tokenizer())
    assert facts.bos_token_id == token_id("<|endoftext|>")
    assert facts.eos_token_id == token_id("<|im_end|>")
    assert facts.pad_token_id == token_id("<|dummy_85|>")
    assert facts.nothink_token_id == token_id("<|dummy_84|>")
    assert facts.think_token_id == token_id("<think>")
    assert facts.end_think_token_id == token_id("</think>")
    assert facts.size == 264


def test_the_size_follows_the_highest_id_wherever_it_stands() -> None:
    tokenizer: dict[str, Any] = fake_tokenizer()
    tokenizer["model"]["vocab"]["ab"] = 700
    assert TokenizerFacts.from_json(tokenizer).size == 701


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda t: t.pop("added_tokens"), "has no added_tokens"),
        (lambda t: t.update(added_tokens={}), "has no added_tokens"),
        (lambda t: t["added_tokens"].remove(token(t, "<|dummy_84|>")), r"no token <\|dummy_84\|>"),
        (lambda t: t["added_tokens"].remove(token(t, "</think>")), "no token </think>"),
        (lambda t: token(t, "<|im_sep|>").update(rstrip=False), r"<\|im_sep\|> is not rstrip"),
        (lambda t: token(t, "<|im_end|>").update(lstrip=False, special=False), "is not special and lstrip"),
        (lambda t: token(t, "<|im_start|>").pop("lstrip"), r"<\|im_start\|> is not lstrip"),
        (lambda t: token(t, "<think>").update(special=True), "<think> is special"),
        (lambda t: t["added_tokens"].append(copy.copy(t["added_tokens"][0])), "stands twice"),
        (lambda t: token(t, "<think>").update(id=token_id("</think>")), "share the id 263"),
        (lambda t: token(t, "<think>").update(id=True), "without id or content"),
        (lambda t: token(t, "<think>").update(id=-1), "without id or content"),
        (lambda t: t["added_tokens"].append("x"), "added_tokens holds 'x'"),
        (lambda t: t.pop("model"), "no model with a vocabulary"),
        (lambda t: t["model"].update(vocab=[["a", 0.5]]), "no model with a vocabulary"),
        (lambda t: t["model"]["vocab"].update(a="1"), "gives 'a' the id '1'"),
    ],
)
def test_a_wrong_tokenizer_is_refused(break_it: Callable[[dict[str, Any]], object], said: str) -> None:
    tokenizer = fake_tokenizer()
    break_it(tokenizer)
    with pytest.raises(CheckpointError, match=said) as caught:
        TokenizerFacts.from_json(tokenizer)
    assert caught.value.message.startswith("wrong tokenizer: tokenizer.json: ")
    assert caught.value.remedy is not None
