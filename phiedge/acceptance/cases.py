"""Questions with the answers that are expected, for budgets of accuracy.

A file has a JSON object on each line: `prompt`, `answer` (one text or several of which any will do), and if wanted
`pictures` (named from the directory of the file) and `match`. "reference:N" stands for N held-out questions of each
task of the reference model.
"""

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiedge.errors import UsageError, nearest
from phiedge.runtime.images import ImageSource

REFERENCE = "reference:"
_KEYS = ("prompt", "answer", "pictures", "match")
_MATCHES = ("exact", "contains", "json")
_MOST_REFERENCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question, the `number`-th of its file; `accepts` tells a right answer."""

    number: int
    prompt: str
    pictures: tuple[ImageSource, ...]
    accepts: Callable[[str], bool]


def read_cases(name: str, directory: Path) -> tuple[Case, ...]:
    """The cases that a workload names, shuffled, always in the same way: a file in the order of its topics would look
    like a machine that changes. Raises `UsageError` for what is not understood."""
    cases = list(_reference(name.removeprefix(REFERENCE)) if name.startswith(REFERENCE) else _read(name, directory))
    random.Random(0).shuffle(cases)
    return tuple(cases)


def _read(name: str, directory: Path) -> tuple[Case, ...]:
    path = directory / name
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"the cases {path} cannot be read: {(why or '').lower()}",
            remedy='name a file of JSON lines beside the spec, or "reference:20"',
        ) from error
    cases = tuple(_case(line, path, place) for place, line in enumerate(lines, start=1) if line.strip())
    if not cases:
        raise UsageError(f"{path} has no cases", remedy='a line is {"prompt": "...", "answer": "..."}')
    return cases


def matches(said: str, wanted: str, match: str) -> bool:
    """Whether `said` is the answer `wanted`; upper case, spaces and a full stop at the end make no difference."""
    if match == "json":
        try:
            return bool(json.loads(said) == json.loads(wanted))
        except ValueError:
            return False
    said, wanted = _plain(said), _plain(wanted)
    if match == "exact":
        return said == wanted
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", said) is not None


def _case(line: str, file: Path, number: int) -> Case:
    where = f"{file}:{number}"
    try:
        table = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{where} is not JSON: {error}") from error
    if not isinstance(table, dict):
        raise UsageError(f"{where} is no object", remedy='a line is {"prompt": "...", "answer": "..."}')
    _check_keys(table, where)
    answers = [table["answer"]] if isinstance(table["answer"], str) else table["answer"]
    pictures, match = table.get("pictures", []), table.get("match", "exact")
    if not isinstance(table["prompt"], str) or not _texts(answers) or not answers:
        raise UsageError(f"{where}: prompt is a text, answer is a text or a list of texts")
    if not _texts(pictures):
        raise UsageError(f"{where}: pictures is a list of files")
    if match not in _MATCHES:
        raise UsageError(f"{where}: match must be one of {', '.join(_MATCHES)}, not {match!r}")
    paths = tuple(file.parent / picture for picture in pictures)
    for path in paths:
        if not path.is_file():
            raise UsageError(f"{where}: there is no picture {path}", remedy="pictures are named from its directory")
    return Case(
        number=number,
        prompt=table["prompt"],
        pictures=paths,
        accepts=lambda said: any(matches(said, answer, match) for answer in answers),
    )


def _check_keys(table: dict[str, Any], where: str) -> None:
    for key in table:
        if key not in _KEYS:
            close = nearest(key, _KEYS, count=1)
            raise UsageError(
                f"{where} has an unknown key {key!r}",
                remedy=f"did you mean {close[0]!r}?" if close else f"there are {', '.join(_KEYS)}",
            )
    for key in ("prompt", "answer"):
        if key not in table:
            raise UsageError(f"{where} lacks {key}", remedy='a line is {"prompt": "...", "answer": "..."}')


def _texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")


def _reference(count: str) -> tuple[Case, ...]:
    from phiedge.reference.evaluate import held_out

    if not (count.isascii() and count.isdigit() and 1 <= int(count) <= _MOST_REFERENCE):
        raise UsageError(
            f"{REFERENCE}{count} names no number of questions", remedy=f"reference:20, from 1 to {_MOST_REFERENCE}"
        )
    return tuple(
        Case(number=number, prompt=question.prompt, pictures=(picture,), accepts=question.accepts)
        for number, (picture, question) in enumerate(held_out(int(count)), start=1)
    )
