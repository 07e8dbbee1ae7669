"""Tables of a TOML file that are read strictly: what is missing, misspelt or of a wrong kind is named by its place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from phiedge.errors import DeviceError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TomlTable:
    """One TOML table and where it stands, for errors that can be found in the file."""

    where: str
    entries: Mapping[str, object]

    def allow(self, known: set[str]) -> None:
        for key in self.entries:
            if key not in known:
                raise DeviceError(f"{self.where}.{key} is not a key of the schema", remedy=f"known: {sorted(known)}")

    def get(self, key: str, read: Callable[[object], T | None], what: str) -> T:
        if key not in self.entries:
            raise DeviceError(f"{self.where}.{key} is missing", remedy=f"{what} is needed there")
        value = read(self.entries[key])
        if value is None:
            raise DeviceError(f"{self.where}.{key} is {self.entries[key]!r}", remedy=f"{what} is needed there")
        return value

    def text(self, key: str) -> str:
        return self.get(key, as_text, "a text")

    def maybe_text(self, key: str) -> str | None:
        return self.text(key) if key in self.entries else None

    def texts(self, key: str) -> tuple[str, ...]:
        return self.get(key, as_texts, "a list of texts") if key in self.entries else ()

    def table(self, key: str) -> "TomlTable":
        return TomlTable(where=f"{self.where}.{key}", entries=self.get(key, as_table, "a table"))

    def tables(self, key: str) -> dict[str, "TomlTable"]:
        outer = self.table(key)
        return {name: outer.table(name) for name in outer.entries}

    def named(self, key: str, known: Mapping[str, T]) -> T:
        return self.get(key, lambda value: known.get(value) if isinstance(value, str) else None, f"one of {[*known]}")


def as_text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def as_flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def as_count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def as_texts(value: object) -> tuple[str, ...] | None:
    texts = tuple(item for item in value if isinstance(item, str) and item) if isinstance(value, list) else ()
    return texts if isinstance(value, list) and len(texts) == len(value) else None


def as_table(value: object) -> Mapping[str, object] | None:
    return value if isinstance(value, dict) else None
