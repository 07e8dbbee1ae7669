"""The special tokens that the prompt protocol stands on, read from `tokenizer.json` and held against `config.json`.

The text around a `<|...|>` token loses its whitespace only if the token says so (`lstrip`, `rstrip`): a tokenizer that
was converted without these flags gives a newline token after every turn, and a model that answers worse for no visible
reason. So the flags are checked, not assumed. Nothing is tokenised here; that is the runtime's.
"""

from dataclasses import dataclass

from phiedge.errors import CheckpointError
from phiedge.exporters.json_object import JsonObject

BOS, EOS, PAD = "<|endoftext|>", "<|im_end|>", "<|dummy_85|>"
TURN_START, TURN_SEPARATOR = "<|im_start|>", "<|im_sep|>"
NOTHINK, THINK, END_THINK = "<|dummy_84|>", "<think>", "</think>"

_STRIPPING = (BOS, TURN_START, EOS, TURN_SEPARATOR, NOTHINK, PAD)
_PLAIN = (THINK, END_THINK)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedToken:
    """One entry of `added_tokens`: a piece of text that is one token wherever it stands."""

    id: int
    content: str
    lstrip: bool
    rstrip: bool
    special: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFacts:
    """What the export needs to know of a tokenizer. `size` is one more than its highest id."""

    size: int
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    think_token_id: int
    end_think_token_id: int
    nothink_token_id: int

    @staticmethod
    def from_json(tokenizer: JsonObject, where: str = "tokenizer.json") -> "TokenizerFacts":
        """Read the parsed `tokenizer.json`. Raises `CheckpointError` where it is not this protocol's tokenizer."""
        added = _added_tokens(tokenizer, where)
        for content in _STRIPPING + _PLAIN:
            if content not in added:
                raise _wrong(where, f"it has no token {content}")
        for content in _STRIPPING:
            token = added[content]
            lacking = [flag for flag in ("special", "lstrip", "rstrip") if not getattr(token, flag)]
            if lacking:
                raise _wrong(where, f"{content} is not {' and '.join(lacking)}, the prompt protocol needs it to be")
        for content in _PLAIN:
            if added[content].special:
                raise _wrong(where, f"{content} is special, it must stay visible in decoded text")
        return TokenizerFacts(
            size=_highest_id(tokenizer, added, where) + 1,
            bos_token_id=added[BOS].id,
            eos_token_id=added[EOS].id,
            pad_token_id=added[PAD].id,
            think_token_id=added[THINK].id,
            end_think_token_id=added[END_THINK].id,
            nothink_token_id=added[NOTHINK].id,
        )


def _added_tokens(tokenizer: JsonObject, where: str) -> dict[str, AddedToken]:
    entries = tokenizer.get("added_tokens")
    if not isinstance(entries, list) or not entries:
        raise _wrong(where, "it has no added_tokens")
    found: dict[str, AddedToken] = {}
    owners: dict[int, str] = {}
    for entry in entries:
        token = _added_token(entry, where)
        if token.content in found:
            raise _wrong(where, f"the added token {token.content} stands twice")
        if token.id in owners:
            raise _wrong(where, f"{owners[token.id]} and {token.content} share the id {token.id}")
        found[token.content] = token
        owners[token.id] = token.content
    return found


def _added_token(entry: object, where: str) -> AddedToken:
    if not isinstance(entry, dict):
        raise _wrong(where, f"added_tokens holds {entry!r}")
    number, content = entry.get("id"), entry.get("content")
    if type(number) is not int or number < 0 or not isinstance(content, str):
        raise _wrong(where, f"added_tokens holds an entry without id or content: {str(entry)[:80]}")
    flags = {name: entry.get(name, False) is True for name in ("lstrip", "rstrip", "special")}
    return AddedToken(id=number, content=content, **flags)


def _highest_id(tokenizer: JsonObject, added: dict[str, AddedToken], where: str) -> int:
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise _wrong(where, "it has no model with a vocabulary")
    highest = max(token.id for token in added.values())
    for piece, number in vocabulary.items():
        if type(number) is not int or number < 0:
            raise _wrong(where, f"the vocabulary gives {piece!r} the id {number!r}")
        highest = max(highest, number)
    return highest


def _wrong(where: str, why: str) -> CheckpointError:
    return CheckpointError(
        f"wrong tokenizer: {where}: {why}", remedy="take tokenizer.json from the repository that the weights came from"
    )
