from pathlib import Path

import pytest

from phiedge.errors import ConfigError
from phiedge.exporters.json_object import parse_object, read_object


def test_an_object_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"a": 1, "ü": [true, null]}', encoding="utf-8")
    assert read_object(file) == {"a": 1, "ü": [True, None]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"o": {"b": 1, "b": 1}}', "'b' stands twice"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ("[1]", "a JSON list, not an object"),
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_object(text, "some.json")
    assert "some.json" in caught.value.message


def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json does not exist") as caught:
        read_object(tmp_path / "config.json")
    assert caught.value.remedy is not None
    assert "copy config.json" in caught.value.remedy


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ConfigError, match="not UTF-8 text: .* at byte 7"):
        read_object(file)
