"""The wire format of Protocol Buffers, read without its library: numbered fields, each a number or a run of bytes.

Enough to look into a graph file on a device, where there is no `onnx` (`phiedge.bundle.graph_file`). It knows no
schema, converts nothing and writes nothing. Bytes that are no such message are a `BundleError`.

Source: Protocol Buffers documentation, "Encoding" (protobuf.dev/programming-guides/encoding).
"""

from collections.abc import Iterator
from typing import TypeAlias

from phiedge.errors import BundleError

Field: TypeAlias = "tuple[int, int | memoryview]"  # its number, and what it holds

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT = 10
_SIGN = 1 << 63


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message in the order of the file. Fixed-width ones come as their bytes.

    Raises `BundleError` where the bytes end early or are no message.
    """
    place, end = 0, len(message)
    while place < end:
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise BundleError(f"byte {place} begins a field of number 0")
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if kind == _BYTES:
            length, place = _varint(message, place)
        elif kind in _FIXED_BYTES:
            length = _FIXED_BYTES[kind]
        else:
            raise BundleError(f"byte {place} begins a field of the unknown kind {kind}")
        if length > end - place:
            raise BundleError(f"a field of {length} bytes begins at byte {place} of {end}")
        yield number, message[place : place + length]
        place += length


def numbers(field: Field) -> Iterator[int]:
    """The integers of a repeated field, which come one by one or packed into one run of bytes."""
    _, value = field
    if isinstance(value, int):
        yield value
        return
    place = 0
    while place < len(value):
        number, place = _varint(value, place)
        yield number


def number(field: Field) -> int:
    """The non-negative integer in a field."""
    _, value = field
    if not isinstance(value, int):
        raise BundleError(f"field {field[0]} holds {len(value)} bytes instead of a number")
    return value


def signed(field: Field) -> int:
    """The integer in a field, which may be negative."""
    value = number(field)
    return value - 2 * _SIGN if value >= _SIGN else value


def data(field: Field) -> memoryview:
    """The bytes in a field."""
    _, value = field
    if isinstance(value, int):
        raise BundleError(f"field {field[0]} holds the number {value} instead of bytes")
    return value


def text(field: Field) -> str:
    """The text in a field; it must be printable, so that it can be shown on a terminal as it is."""
    try:
        decoded = bytes(data(field)).decode()
    except UnicodeDecodeError as error:
        raise BundleError(f"field {field[0]} is not text: {error.reason}") from error
    if not decoded.isprintable():
        raise BundleError(f"field {field[0]} holds characters that do not print: {decoded[:40]!r}")
    return decoded


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """The number that begins at `place`, seven bits a byte, and where it ends."""
    value = 0
    for index, byte in enumerate(message[place : place + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value >= 2 * _SIGN:
                break
            return value, place + index + 1
    raise BundleError(f"byte {place} of {len(message)} begins a number that does not end")
