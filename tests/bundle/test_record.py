from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pytest

from phiedge.bundle.record import decode, encode
from phiedge.errors import BundleError


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    name: str
    scale: float
    mode: Literal["a", "b"]
    shape: tuple[int, int]
    ids: tuple[int, ...]
    inner: Inner
    parts: Mapping[str, Inner]
    note: str | None
    fact: str | int | bool | None


VALUE = {
    "name": "n",
    "scale": 0.5,
    "mode": "a",
    "shape": [1, 2],
    "ids": [3],
    "inner": {"size": 4},
    "parts": {"x": {"size": 5}},
    "note": None,
    "fact": True,
}


def test_a_record_comes_back_from_its_json() -> None:
    record = decode(Outer, VALUE, "it")
    assert record.parts["x"] == Inner(size=5)
    assert record.shape == (1, 2)
    assert encode(record) == VALUE


def test_an_integer_may_stand_for_a_float() -> None:
    assert decode(Outer, VALUE | {"scale": 1}, "it").scale == 1.0


def test_an_unknown_key_is_named_with_the_nearest_one() -> None:
    with pytest.raises(BundleError, match=r"it\.inner has an unknown key 'sise'; did you mean 'size'\?"):
        decode(Outer, VALUE | {"inner": {"sise": 4}}, "it")


def test_a_missing_key_is_named() -> None:
    with pytest.raises(BundleError, match=r"it\.inner lacks the key 'size'"):
        decode(Outer, VALUE | {"inner": {}}, "it")


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("name", 3, r"it\.name must be of type str, not 3"),
        ("scale", "0.5", r"it\.scale must be of type float"),
        ("scale", True, r"it\.scale must be of type float"),
        ("mode", "c", r"it\.mode must be one of 'a', 'b'"),
        ("shape", [1], r"it\.shape has 1 items instead of 2"),
        ("shape", "12", r"it\.shape must be a list"),
        ("ids", [1, None], r"it\.ids\[1\] must be of type int"),
        ("ids", [True], r"it\.ids\[0\] must be of type int"),
        ("inner", [], r"it\.inner must be an object"),
        ("parts", [], r"it\.parts must be an object"),
        ("parts", {"x": 1}, r"it\.parts\['x'\] must be an object"),
        ("note", 1, r"it\.note must be of type str"),
        ("fact", [], r"it\.fact must be str or int or bool"),
    ],
)
def test_a_value_of_another_type_is_refused(key: str, value: object, complaint: str) -> None:
    with pytest.raises(BundleError, match=complaint):
        decode(Outer, VALUE | {key: value}, "it")
