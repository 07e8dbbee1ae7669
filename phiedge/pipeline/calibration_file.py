"""`--calibration FILE.jsonl`: one JSON object per line, a question with what a good model says to it.

    {"prompt": "What is the price?", "images": ["kiosk.png"], "answer": "2.40", "thinking": "...", "think": "on"}

Only `prompt` must be there. Paths of pictures start at the directory of the file. `thinking` and `answer` are best what
the model itself said; `think` ("auto", "on", "off") says how it was asked. Every line is checked before any is run.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from phiedge.errors import InputError, UsageError
from phiedge.pipeline.calibration_samples import HELD_OUT_EVERY, Example
from phiedge.runtime.prompt import ThinkMode

_KEYS = ("prompt", "images", "answer", "thinking", "think")
_MOST_BYTES = 256 << 20


def read_examples(path: Path) -> list[Example]:
    """The examples of a file, in order. Raises `UsageError` where there is none, `InputError` naming a line."""
    if not path.is_file():
        raise UsageError(f"there is no calibration file {path}", remedy="--calibration builtin, none, or a FILE.jsonl")
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(
            f"{path} has {path.stat().st_size} bytes, at most {_MOST_BYTES} are read",
            remedy="give some hundred examples; more calibrate no better",
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}", remedy="save it as UTF-8") from error
    examples = [
        _example(f"{path.name}, line {number}", line, path.parent)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if len(examples) < HELD_OUT_EVERY:
        raise InputError(
            f"{path} has {len(examples)} examples, at least {HELD_OUT_EVERY} are needed, of which one judges",
            remedy="give 64 or more",
        )
    return examples


def _example(told: str, line: str, directory: Path) -> Example:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{told} is not JSON: {error}", remedy="write one JSON object per line") from error
    if not isinstance(found, dict):
        raise InputError(f"{told} is a {type(found).__name__}, not an object", remedy='{"prompt": "..."}')
    unknown = [key for key in found if key not in _KEYS]
    if unknown:
        raise InputError(f"{told} has the key {unknown[0]!r}", remedy=f"use {', '.join(_KEYS)}")
    prompt = _text(told, found, "prompt")
    if prompt is None:
        raise InputError(f"{told} has no prompt", remedy='{"prompt": "..."}')
    think = found.get("think", "auto")
    if think not in get_args(ThinkMode):
        raise InputError(f"{told}: think is {think!r}", remedy=f"use one of {', '.join(get_args(ThinkMode))}")
    thinking = _text(told, found, "thinking")
    if thinking is not None and think == "off":
        raise InputError(f"{told} has a thought and think 'off'", remedy="leave one of them out")
    return Example(
        told=told,
        prompt=prompt,
        images=tuple(_image(told, entry, directory) for entry in _images(told, found)),
        thinking=thinking,
        answer=_text(told, found, "answer"),
        think=think,
    )


def _text(told: str, found: Mapping[str, Any], key: str) -> str | None:
    value = found.get(key)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{told}: {key} is a {type(value).__name__}, not a text", remedy=f'"{key}": "..."')
    return value


def _images(told: str, found: Mapping[str, Any]) -> list[Any]:
    value = found.get("images", [])
    if not isinstance(value, list):
        raise InputError(f"{told}: images is a {type(value).__name__}, not a list", remedy='"images": ["picture.png"]')
    return value


def _image(told: str, entry: object, directory: Path) -> Path:
    if not isinstance(entry, str) or not entry:
        raise InputError(f"{told}: {entry!r} is no path of a picture", remedy='"images": ["picture.png"]')
    path = directory / entry
    if not path.is_file():
        raise InputError(
            f"{told}: there is no picture {path}", remedy=f"paths start at {directory}; check the name, or leave it out"
        )
    return path
