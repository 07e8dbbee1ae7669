"""A tokenizer and a chat template for a configuration that came without: enough to try everything, trained on nothing.

The tokenizer is byte-level and merges nothing, so it encodes any text, one token per byte; every id of the vocabulary
spells something, so that any answer can be shown. The special tokens of the prompt protocol have the ids that the
configuration gives them; where it gives none, they stand beside those it does, as in the published tokenizer
(`<|im_start|>` before `<|im_end|>`, `<think>` after `<|dummy_85|>`, ...), or failing that where there is room.
"""

import itertools
from collections.abc import Iterator
from string import ascii_lowercase

from phiedge.errors import ConfigError
from phiedge.exporters.companions import TokenIds
from phiedge.exporters.json_object import JsonObject
from phiedge.exporters.tokenizer import BOS, END_THINK, EOS, NOTHINK, PAD, THINK, TURN_SEPARATOR, TURN_START

TEMPLATE = (
    "<|im_start|>system<|im_sep|>Answer the question.<|im_end|>\n"
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}<|im_sep|>{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}"
)
_BYTES = 256
_PLAIN = (THINK, END_THINK)


def stand_in_tokenizer(tokens: TokenIds, vocab_size: int) -> JsonObject:
    """A `tokenizer.json` for a vocabulary of `vocab_size` ids. Raises `ConfigError` if that is too few."""
    special = _special_ids(tokens, vocab_size)
    free = (number for number in range(vocab_size) if number not in special.values())
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added_token(content, special[content]) for content in sorted(special, key=special.__getitem__)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        # The library gives an added token a new id if it is not in the vocabulary, too.
        "model": {"type": "BPE", "vocab": special | dict(zip(_pieces(), free, strict=False)), "merges": []},
    }


def _special_ids(tokens: TokenIds, vocab_size: int) -> dict[str, int]:
    eos = next((number for number in tokens.eos if number not in (tokens.bos, tokens.pad)), tokens.eos[0])
    given = {BOS: tokens.bos, EOS: eos, PAD: tokens.pad}
    if len(set(given.values())) < len(given):
        raise ConfigError(
            f"config.json gives two of bos, eos and pad the same id: {tokens.bos}, {eos}, {tokens.pad}",
            remedy="take config.json from the repository of the weights",
        )
    wanted = {
        TURN_START: eos - 1,
        TURN_SEPARATOR: eos + 1,
        NOTHINK: tokens.pad - 1,
        THINK: tokens.pad + 1,
        END_THINK: tokens.pad + 2,
    }
    needed = len(given) + len(wanted) + _BYTES
    if vocab_size < needed:
        raise ConfigError(
            f"a stand-in for the missing tokenizer.json needs {needed} ids, config.json has vocab_size {vocab_size}",
            remedy="put the checkpoint's tokenizer.json beside config.json",
        )
    ids = dict(given)
    room = (number for number in range(vocab_size - 1, -1, -1) if number not in {*ids.values(), *wanted.values()})
    for content, number in wanted.items():
        ids[content] = number if 0 <= number < vocab_size and number not in ids.values() else next(room)
    return ids


def _added_token(content: str, number: int) -> JsonObject:
    control = content not in _PLAIN
    return {
        "id": number,
        "content": content,
        "single_word": False,
        "lstrip": control,
        "rstrip": control,
        "normalized": False,
        "special": control,
    }


def _pieces() -> Iterator[str]:
    """The alphabet of byte-level BPE, then words: all that is printable as it is, the other bytes from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    yield from map(chr, printable)
    yield from map(chr, range(0x100, 0x100 + _BYTES - len(printable)))
    for length in itertools.count(2):
        for letters in itertools.product(ascii_lowercase, repeat=length):
            yield "Ġ" + "".join(letters)
