import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phiedge.errors import InputError, UsageError
from phiedge.pipeline.calibration_file import read_examples


@pytest.fixture
def write(tmp_path: Path):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "kiosk.png")

    def write_lines(*lines: object, filler: int = 8) -> Path:
        told = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        told += [json.dumps({"prompt": f"What is {number}?"}) for number in range(filler)]
        path = tmp_path / "examples.jsonl"
        path.write_text("\n".join(told) + "\n", encoding="utf-8")
        return path

    return write_lines


def test_a_line_is_a_question_with_pictures_and_what_is_said(write, tmp_path) -> None:
    path = write(
        {"prompt": "Price?", "images": ["kiosk.png"], "thinking": "Look.", "answer": "2.40", "think": "on"}, ""
    )
    first, second, *_ = read_examples(path)
    assert first.told == "examples.jsonl, line 1"
    assert first.images == (tmp_path / "kiosk.png",)
    assert (first.thinking, first.answer, first.think) == ("Look.", "2.40", "on")
    assert (second.told, second.think, second.answer) == ("examples.jsonl, line 3", "auto", None)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 1 is not JSON"),
        ("[1]", "line 1 is a list, not an object"),
        ({}, "line 1 has no prompt"),
        ({"prompt": 3}, "line 1: prompt is a int, not a text"),
        ({"prompt": "a", "picture": "b"}, "line 1 has the key 'picture'"),
        ({"prompt": "a", "images": "kiosk.png"}, "line 1: images is a str, not a list"),
        ({"prompt": "a", "images": [None]}, "line 1: None is no path"),
        ({"prompt": "a", "images": ["gone.png"]}, "line 1: there is no picture .*gone.png"),
        ({"prompt": "a", "think": "maybe"}, "line 1: think is 'maybe'"),
        ({"prompt": "a", "think": "off", "thinking": "b"}, "line 1 has a thought and think 'off'"),
    ],
)
def test_a_line_that_is_wrong_is_refused_by_its_number(write, line, told) -> None:
    with pytest.raises(InputError, match=told) as refused:
        read_examples(write(line))
    assert refused.value.remedy


def test_too_few_lines_are_refused(write) -> None:
    with pytest.raises(InputError, match="has 3 examples, at least 8"):
        read_examples(write(filler=3))
    with pytest.raises(InputError, match="has 0 examples"):
        read_examples(write(filler=0))


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="there is no calibration file"):
        read_examples(tmp_path / "gone.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not UTF-8"):
        read_examples(tmp_path / "binary.jsonl")
