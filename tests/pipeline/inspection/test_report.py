import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from phiedge.bundle import Bundle
from phiedge.errors import UsageError
from phiedge.pipeline.inspection import PART_NAMES, Inspection, check_parts, inspect_bundle, only

DOCUMENT = Path(__file__).parents[3] / "docs" / "reference" / "inspect.md"


def records_of(kind: Any) -> Iterator[type]:
    """The dataclasses that a value of type `kind` may hold."""
    if is_dataclass(kind):
        assert isinstance(kind, type)
        yield kind
        for inner in get_type_hints(kind).values():
            yield from records_of(inner)
    for argument in get_args(kind):
        yield from records_of(argument)


def test_every_key_is_documented() -> None:
    prose = re.sub(r"```.*?```", "", DOCUMENT.read_text(), flags=re.DOTALL)
    known = {word for code in re.findall(r"`[^`]+`", prose) for word in re.findall(r"\w+", code)}
    records = {kind for kind in records_of(Inspection) if kind.__module__.startswith("phiedge.pipeline.inspection")}
    assert len(records) > 10
    assert {field.name for kind in records for field in fields(kind)} - known == set()


def test_what_is_told_adds_up(two_dialects: Bundle) -> None:
    found = inspect_bundle(two_dialects)
    assert found.files == len(two_dialects.manifest.files)
    assert sum(part.bytes for part in found.parts) == found.bytes
    assert found.sharing.read_bytes == {"ort": 496, "tensorrt": 496}
    assert (found.sharing.saved_bytes, found.sharing.unread_bytes) == (496, 16)
    assert found.other_weights_bytes == {"vision": 0, "decoder": 32}
    assert sum(layer.stored_bytes for layer in found.layers) == 496 - 32
    assert found.quantization == {"precision": "int4", "notes": ["a note"]}


def test_it_is_json_with_a_version(two_dialects: Bundle) -> None:
    told = inspect_bundle(two_dialects).as_dict()
    assert told["schema_version"] == 1
    assert list(told)[:2] == ["schema_version", "bundle"]


def test_files_that_nobody_listed_and_profiles_are_named(two_dialects: Bundle) -> None:
    (two_dialects.path / "more.bin").write_bytes(b"")
    (two_dialects.path / "profiles").mkdir()
    (two_dialects.path / "profiles" / "a.json").write_bytes(b"")
    found = inspect_bundle(two_dialects)
    assert (found.unlisted_files, found.profiles) == (("more.bin",), ("a.json",))


@pytest.mark.parametrize(
    ("names", "graphs", "layers"),
    [
        (["vision"], (True, False), {"projector"}),
        (["decoder"], (False, True), {"decoder", "lm_head"}),
        (["vision", "decoder"], (True, True), {"projector", "decoder", "lm_head"}),
        (["tokenizer", "engines"], (False, False), set()),
    ],
)
def test_a_choice_of_parts_keeps_what_belongs_to_them(
    two_dialects: Bundle, names: list[str], graphs: tuple[bool, bool], layers: set[str]
) -> None:
    found = only(inspect_bundle(two_dialects), names)
    assert [part.name for part in found.parts] == [name for name in names if name != "engines"]
    assert {(dialect.vision is not None, dialect.decoder is not None) for dialect in found.dialects} == {graphs}
    assert {layer.part for layer in found.layers} == layers
    assert set(found.other_weights_bytes) == set(names) & {"vision", "decoder"}


def test_a_part_that_does_not_exist_or_is_not_there_is_refused(two_dialects: Bundle) -> None:
    with pytest.raises(UsageError, match="no part 'goldfish'") as caught:
        check_parts(["vision", "goldfish"])
    assert "goldens" in str(caught.value.remedy)
    check_parts(PART_NAMES)
    with pytest.raises(UsageError, match="has no goldens") as caught:
        only(inspect_bundle(two_dialects), ["goldens"])
    assert "it has decoder, embeddings, engines" in str(caught.value.remedy)
