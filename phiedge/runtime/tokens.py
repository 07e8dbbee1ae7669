"""Text to token ids and back, for byte-level BPE tokenizers with control tokens.

Going back is done byte by byte, so that a stream never shows half a character: what a token adds to the text depends
only on the tokens before it. Control tokens (the turn marks, the thinking marks, padding) are not part of the text.
"""

import codecs
from pathlib import Path

import tokenizers

from phiedge.bundle import ModelFacts
from phiedge.errors import BundleError


class Tokenizer:
    """The tokenizer of one model. Raises `BundleError` on opening if it does not go with the model's facts."""

    def __init__(self, path: Path, facts: ModelFacts) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for every fault of the file
            raise BundleError(f"{path} is not a tokenizer: {error}", remedy="export the bundle again") from error
        # A tokenizer.json can carry a truncation of its own, which would cut prompts without a word.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = self._tokenizer.get_added_tokens_decoder()
        self._special_ids = frozenset(token for token, entry in added.items() if entry.special)
        self.control_ids = frozenset(added)
        self.control_texts = tuple(entry.content for entry in added.values())
        self._check(path, facts)
        self.bos_text = self.text_of(facts.bos_token_id)
        self.eos_text = self.text_of(facts.eos_token_ids[0])
        self.think_text = self.text_of(facts.think_token_id)
        self.end_think_text = self.text_of(facts.end_think_token_id)
        self.nothink_text = self.text_of(facts.nothink_token_id)
        # All of them now: asking the library in the middle of an answer costs more than the table does.
        self._bytes = self._spell_out(facts.vocab_size)

    def encode(self, text: str) -> list[int]:
        """The ids of one piece of text; control tokens in it become their ids, and nothing is added at its ends."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def described(self) -> str:
        """The tokenizer as the text of a tokenizer.json, for libraries that read it themselves."""
        description: str = self._tokenizer.to_str()
        return description

    def text_of(self, token: int) -> str:
        """The tokenizer's own spelling of one token."""
        text: str | None = self._tokenizer.id_to_token(token)
        if text is None:
            raise BundleError(f"the tokenizer has no token {token}", remedy="export the bundle again")
        return text

    def bytes_of(self, token: int) -> bytes:
        """What a token adds to the text, in UTF-8 bytes, possibly part of a character; nothing for a control token."""
        return self._bytes[token]

    def _spell_out(self, vocab_size: int) -> list[bytes]:
        spelled = [b""] * vocab_size
        for spelling, token in self._tokenizer.get_vocab(with_added_tokens=True).items():
            if token not in self._special_ids:
                spelled[token] = _unspell(spelling)
        return spelled

    def _check(self, path: Path, facts: ModelFacts) -> None:
        if type(self._tokenizer.decoder).__name__ != "ByteLevel":
            raise BundleError(
                f"{path} decodes by {type(self._tokenizer.decoder).__name__}, this model's tokenizer by ByteLevel",
                remedy="export from a checkpoint with the tokenizer.json that belongs to it",
            )
        size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        added = self._tokenizer.get_added_tokens_decoder()
        highest = max([size - 1, *added])
        if highest >= facts.vocab_size:
            raise BundleError(
                f"{path} has token {highest}, the model has embeddings for {facts.vocab_size} tokens",
                remedy="export from a checkpoint with the tokenizer.json that belongs to it",
            )
        for name in ("bos_token_id", "think_token_id", "end_think_token_id", "nothink_token_id"):
            if getattr(facts, name) not in added:
                raise BundleError(
                    f"{path}: {name} {getattr(facts, name)} is not among its added tokens",
                    remedy="export from a checkpoint with the tokenizer.json that belongs to it",
                )


class Detokeniser:
    """Text from a stream of tokens, character by whole character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The characters that `token` completes."""
        return self._decoder.decode(self._tokenizer.bytes_of(token))

    def flush(self) -> str:
        """What is left of a character that never came whole (U+FFFD), and a clean start."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest


def _unspell(spelling: str) -> bytes:
    """The bytes behind a vocabulary entry; an entry with characters outside the byte alphabet stands for itself."""
    try:
        return bytes(_BYTE_OF[character] for character in spelling)
    except KeyError:
        return spelling.encode()


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE spells printable bytes as themselves and the others, in order, as characters from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
