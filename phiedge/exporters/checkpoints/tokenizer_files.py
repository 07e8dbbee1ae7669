"""The files about text beside the weights: tokenizer, chat template, and what ends an answer.

A bundle has the tokenizer and the template; other libraries also look for `tokenizer_config.json`,
`special_tokens_map.json` and `generation_config.json`, which say again what the tokenizer and the manifest say.

The publisher's own code has no token for a picture: it cuts the prompt at `<image>` and puts a number there that no
tokenizer knows. An engine with a tokenizer of its own needs one, so one of the tokens that the publisher left unused is
called `<image>` for the formats that want it.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from phiedge.bundle import Bundle, ModelFacts
from phiedge.errors import FormatError
from phiedge.exporters.checkpoints.directory import CheckpointDirectory
from phiedge.exporters.json_object import JsonObject, read_object
from phiedge.exporters.tokenizer import BOS, EOS, NOTHINK, PAD

PLACEHOLDER = "<image>"
_UNUSED = re.compile(r"<\|dummy_(\d+)\|>")
_FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")
_GENERATION = re.compile(r"(?P<before>\s*)\{%(?P<left>[-+]?)\s*(?:end)?generation\s*(?P<right>[-+]?)%\}(?P<after>\s*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFiles:
    """What is written beside the weights; `image_token_id` is the placeholder's, or None where there is none."""

    tokenizer: JsonObject
    template: str
    image_token_id: int | None


def text_files(bundle: Bundle, *, placeholder: bool) -> TextFiles:
    """Read a bundle's tokenizer and template; with `placeholder`, an unused token becomes the picture's.

    The template then also loses its marks for training, `{% generation %}`, which renderers other than Python's do not
    know and which render as nothing. Raises `FormatError` where no token is left unused.
    """
    manifest = bundle.manifest
    tokenizer = read_object(bundle.file(manifest.tokenizer))
    template = bundle.file(manifest.chat_template).read_text(encoding="utf-8")
    if not placeholder:
        return TextFiles(tokenizer=tokenizer, template=template, image_token_id=None)
    number = _name_placeholder(tokenizer)
    return TextFiles(tokenizer=tokenizer, template=without_marks(template), image_token_id=number)


def write_text_files(files: TextFiles, facts: ModelFacts, directory: CheckpointDirectory) -> None:
    """Write the five files."""
    names = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    directory.write_json(
        "tokenizer_config.json",
        {
            **names,
            "added_tokens_decoder": {str(entry["id"]): _flags(entry) for entry in _added(files.tokenizer)},
            "clean_up_tokenization_spaces": False,
            "model_max_length": facts.max_position_embeddings,
            "padding_side": "right",
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )
    directory.write_json("special_tokens_map.json", names)
    directory.write_json("generation_config.json", generation_config(facts))
    _write_text(directory.path / "tokenizer.json", json.dumps(files.tokenizer, ensure_ascii=False))
    _write_text(directory.path / "chat_template.jinja", files.template)


def generation_config(facts: ModelFacts) -> dict[str, object]:
    """`generation_config.json`, as the publisher has it."""
    defaults = facts.generation
    sampling = {"temperature": defaults.temperature, "top_p": defaults.top_p} if defaults.do_sample else {}
    return {
        "bos_token_id": facts.bos_token_id,
        "do_sample": defaults.do_sample,
        "eos_token_id": list(facts.eos_token_ids),
        "pad_token_id": facts.pad_token_id,
        **sampling,
    }


def without_marks(template: str) -> str:
    """The template without `{% generation %}` and its end; it renders the same, white space included.

    Jinja drops a block's line end (`trim_blocks`), what stands before it on its line (`lstrip_blocks`), and with a
    minus all white space on that side.
    """

    def replaced(match: re.Match[str]) -> str:
        before, after = match["before"], match["after"]
        at_line_start = "\n" in before or match.start() == 0
        if match["left"] == "-":
            before = ""
        elif match["left"] != "+" and at_line_start:
            before = before[: before.rfind("\n") + 1]
        if match["right"] == "-":
            after = ""
        elif match["right"] != "+" and after.startswith("\n"):
            after = after[1:]
        return before + after

    previous = None
    while previous != template:
        previous, template = template, _GENERATION.sub(replaced, template, count=1)
    return template


def _name_placeholder(tokenizer: JsonObject) -> int:
    """Call the first unused token `<image>`; what stands around it keeps its white space, as the publisher has it."""
    added = list(_added(tokenizer))
    if any(entry.get("content") == PLACEHOLDER for entry in added):
        return next(_number(entry) for entry in added if entry.get("content") == PLACEHOLDER)
    unused = sorted(
        (_number(entry), str(entry["content"]))
        for entry in added
        if _UNUSED.fullmatch(str(entry.get("content"))) and entry["content"] not in (NOTHINK, PAD)
    )
    if not unused:
        raise FormatError(
            f"the tokenizer has no unused token <|dummy_N|> that could be called {PLACEHOLDER}",
            remedy="take tokenizer.json from the repository that the weights came from, and export again",
        )
    number, called = unused[0]
    for entry in added:
        if entry["id"] == number:
            entry |= {"content": PLACEHOLDER, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict) and called in vocabulary:
        vocabulary[PLACEHOLDER] = vocabulary.pop(called)
    return number


def _added(tokenizer: JsonObject) -> Iterator[JsonObject]:
    entries = tokenizer.get("added_tokens")
    if isinstance(entries, list):
        yield from (entry for entry in entries if isinstance(entry, dict))


def _number(entry: JsonObject) -> int:
    number = entry.get("id")
    assert isinstance(number, int), entry
    return number


def _flags(entry: JsonObject) -> JsonObject:
    return {"content": entry["content"]} | {flag: entry.get(flag, False) is True for flag in _FLAGS}


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
