"""The end of an answer that was written elsewhere: whether it has its form, and the shortest text that it lacks."""

import json
from dataclasses import dataclass
from typing import Any

from phiedge.runtime.forms.grammar import Grammar

_SEARCH = 5_000  # steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is to be written after an answer for it to have its form; `made_up` as of `Result`.

    `said` tells whether any of the answer was chosen by the model.
    """

    text: str = ""
    made_up: str = ""
    said: bool = True


def ending_after(grammar: Grammar, written: bytes) -> Ending | None:
    """The end that `written` lacks, None where no answer of the form begins so."""
    matcher: Any = grammar.bytes_matcher.deep_copy()
    if written and not matcher.consume_tokens(list(written)):
        return Ending() if _is_same_json(grammar, written) else None
    if matcher.is_accepting():
        return Ending()
    closing = grammar.close(matcher, most_steps=_SEARCH, known=grammar.closing)
    if closing is None:
        return None
    text, made_up = closing.text.decode(errors="replace"), closing.text[: closing.made_up].decode(errors="replace")
    said = not made_up or len(written) > grammar.forced_at_first
    return Ending(text=text, made_up=made_up if said else written.decode(errors="replace") + text, said=said)


def _is_same_json(grammar: Grammar, written: bytes) -> bool:
    """Whether it is JSON of the form in another spacing, which servers leave to the model."""
    if grammar.form.grammar[0] != "json":
        return False
    try:
        spaced = json.dumps(json.loads(written), ensure_ascii=False).encode()
    except ValueError:
        return False
    matcher: Any = grammar.bytes_matcher.deep_copy()
    return bool(matcher.consume_tokens(list(spaced)) and matcher.is_accepting())
