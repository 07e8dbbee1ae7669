from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiedge.bundle.protobuf import data, fields, number, numbers, signed, text
from phiedge.errors import BundleError


def message(*parts: int | bytes) -> memoryview:
    return memoryview(b"".join(bytes([part]) if isinstance(part, int) else part for part in parts))


def test_numbers_bytes_and_fixed_widths_come_with_their_field_numbers() -> None:
    found = list(fields(message(0x08, 0x96, 0x01, 0x12, 3, b"abc", 0x1D, b"1234", 0x21, b"12345678")))
    assert [(key, value if isinstance(value, int) else bytes(value)) for key, value in found] == [
        (1, 150),
        (2, b"abc"),
        (3, b"1234"),
        (4, b"12345678"),
    ]


def test_a_field_number_may_take_several_bytes() -> None:
    assert list(fields(message(0x80, 0x80, 0x01, 7))) == [(2048, 7)]


def test_integers_come_one_by_one_or_packed() -> None:
    one_by_one = [value for field in fields(message(0x08, 1, 0x08, 0xAC, 0x02)) for value in numbers(field)]
    packed = [value for field in fields(message(0x0A, 3, 1, 0xAC, 0x02)) for value in numbers(field)]
    assert one_by_one == packed == [1, 300]


def test_a_negative_number_is_that_of_ten_bytes() -> None:
    (field,) = fields(message(0x08, b"\xff" * 9, 0x01))
    assert signed(field) == -1
    assert signed((1, 5)) == 5


@pytest.mark.parametrize(
    ("damaged", "told"),
    [
        ((0x08,), "begins a number that does not end"),
        ((0x08, 0x80), "begins a number that does not end"),
        ((0x08, b"\xff" * 10, 0), "begins a number that does not end"),
        ((0x08, b"\xff" * 9, 0x7F), "begins a number that does not end"),
        ((0x12, 5, b"abc"), "a field of 5 bytes begins at byte 2 of 5"),
        ((0x21, b"1234"), "a field of 8 bytes begins at byte 1 of 5"),
        ((0x00, 0x01), "field of number 0"),
        ((0x0B, 0x01), "unknown kind 3"),
        ((0x0F, 0x01), "unknown kind 7"),
    ],
)
def test_what_is_no_message_is_refused(damaged: tuple[int | bytes, ...], told: str) -> None:
    with pytest.raises(BundleError, match=told):
        list(fields(message(*damaged)))


@pytest.mark.parametrize(
    ("read", "field", "told"),
    [
        (number, (4, memoryview(b"ab")), "field 4 holds 2 bytes instead of a number"),
        (data, (4, 9), "field 4 holds the number 9 instead of bytes"),
        (text, (4, memoryview(b"\xff")), "field 4 is not text"),
        (text, (4, memoryview(b"a\x1b[2J")), "field 4 holds characters that do not print"),
    ],
)
def test_what_a_field_does_not_hold_is_refused(
    read: Callable[[object], object], field: tuple[int, object], told: str
) -> None:
    with pytest.raises(BundleError, match=told):
        read(field)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(noise: bytes) -> None:
    with suppress(BundleError):
        assert all(key > 0 for key, _ in fields(memoryview(noise)))
