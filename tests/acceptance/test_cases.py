"""Questions with expected answers: read strictly, and judged as people would."""

import json
from pathlib import Path
from typing import Any

import pytest

from phiedge.acceptance.cases import matches, read_cases
from phiedge.errors import UsageError


def test_a_file_of_cases_is_read(tmp_path: Path) -> None:
    (tmp_path / "shelf.png").write_bytes(b"")
    lines = [
        {"prompt": "How many?", "answer": ["3", "three"], "pictures": ["shelf.png"]},
        {"prompt": "a", "answer": "b"},
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    first, second = sorted(read_cases("q.jsonl", tmp_path), key=lambda case: case.number)
    assert first.pictures == (tmp_path / "shelf.png",)
    assert (first.accepts("Three."), first.accepts("13"), second.accepts("b")) == (True, False, True)


@pytest.mark.parametrize(
    ("said", "wanted", "match", "right"),
    [
        ("Red.", "red", "exact", True),
        ("It is red", "red", "exact", False),
        ("It is red.", "red", "contains", True),
        ("It is bored", "red", "contains", False),
        ('{"b": 1, "a": [2]}', '{"a": [2], "b": 1}', "json", True),
        ("{", "{}", "json", False),
    ],
)
def test_answers_match_as_the_case_says(said: str, wanted: str, match: str, right: bool) -> None:
    assert matches(said, wanted, match) is right


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[]", "no object"),
        ('{"prompt": "a"}', "lacks answer"),
        ('{"prompt": "a", "answer": "b", "picture": "c"}', "unknown key 'picture'"),
        ('{"prompt": "a", "answer": "b", "pictures": ["c.png"]}', "no picture"),
        ('{"prompt": "a", "answer": 3}', "a text or a list"),
        ('{"prompt": "a", "answer": "b", "match": "regex"}', "one of exact"),
        ("", "no cases"),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "q.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_cases("q.jsonl", tmp_path)


def test_the_reference_models_questions_have_pictures_and_answers(tmp_path: Path) -> None:
    cases = read_cases("reference:1", tmp_path)
    assert len(cases) == 6
    assert all(len(case.pictures) == 1 and not case.accepts("no idea") for case in cases)
    for wrong in ("reference:0", "reference:x", "none.jsonl"):
        with pytest.raises(UsageError):
            read_cases(wrong, tmp_path)


def test_spec_with_cases_reads_them(tmp_path: Path) -> None:
    from phiedge.acceptance.spec_reading import read_spec

    (tmp_path / "q.jsonl").write_text('{"prompt": "a", "answer": "b"}\n', encoding="utf-8")
    spec: Any = (
        'schema = "phiedge.accept/1"\n[[workload]]\nname = "quiz"\ncases = "q.jsonl"\n'
        'arrival = { kind = "closed", pause_ms = 0 }\n[[accuracy]]\nworkload = "quiz"\nat_least = 0.5\n'
    )
    (tmp_path / "s.toml").write_text(spec, encoding="utf-8")
    assert len(read_spec(tmp_path / "s.toml").cases["quiz"]) == 1
