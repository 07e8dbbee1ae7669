"""One object of a configuration file, read strictly: every key is asked for, or refused by name when all is read.

A key is either used, fixed to what the architecture supports, or known to have no effect on inference (`inert`). There
is no fourth kind, and no value is converted or corrected.
"""

import json

from phiedge.errors import ConfigError, nearest
from phiedge.exporters.json_object import JsonObject


class Section:
    """A JSON object with the name (`where`) under which errors speak of it; call `close` when everything is read."""

    def __init__(self, values: JsonObject, where: str) -> None:
        self.where = where
        self._values = values
        self._known: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def integer(self, key: str, *, minimum: int, default: int | None = None) -> int:
        """A whole number of at least `minimum`; without a default the key must be there."""
        value = self._value(key, default)
        if type(value) is not int:
            raise self._refused(key, value, "a whole number")
        if value < minimum:
            raise self._refused(key, value, f"at least {minimum}")
        return value

    def positive(self, key: str, *, default: float | None = None) -> float:
        """A number above 0; without a default the key must be there."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refused(key, value, "a number")
        if not 0 < value < float("inf"):
            raise self._refused(key, value, "a finite number above 0")
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """true or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self._refused(key, value, "true or false")
        return value

    def text(self, key: str) -> str:
        """A string that must be there."""
        value = self._value(key, None)
        if not isinstance(value, str):
            raise self._refused(key, value, "a string")
        return value

    def fixed(self, key: str, *supported: object) -> None:
        """Where the key is given, its value must be one of `supported` (the first is what absence means)."""
        value = self._value(key, supported[0], may_be_null=True)
        if not any(_same(value, candidate) for candidate in supported):
            raise self._refused(key, value, " or ".join(_spell(candidate) for candidate in supported))

    def inert(self, *keys: str) -> None:
        """Keys that the publisher's tools write and inference does not read."""
        self._known.update(keys)

    def integers(self, key: str, *, minimum: int) -> tuple[int, ...]:
        """A whole number or a non-empty list of them."""
        value = self._value(key, None)
        items = value if isinstance(value, list) else [value]
        if not items:
            raise self._refused(key, value, "at least one whole number")
        for item in items:
            if type(item) is not int or item < minimum:
                raise self._refused(key, value, f"whole numbers of at least {minimum}")
        return tuple(items)

    def section(self, key: str) -> "Section | None":
        """The object under `key`, or None where it is absent or null."""
        self._known.add(key)
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._refused(key, value, "an object")
        return Section(value, f"{self.where}: {key}")

    def close(self) -> None:
        """Refuse the first key that nobody asked for, with the nearest name that is known."""
        for key in self._values:
            if key not in self._known:
                close = nearest(key, self._known, count=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise ConfigError(
                    f"{self.where} has a key that phiedge does not know: {key!r}{hint}",
                    remedy="remove the key if it has no effect on inference; otherwise this model is not supported",
                )

    def _value(self, key: str, default: object, *, may_be_null: bool = False) -> object:
        self._known.add(key)
        if key in self._values and (may_be_null or self._values[key] is not None):
            return self._values[key]
        if default is None and not may_be_null:
            state = "null" if key in self._values else "missing"
            raise ConfigError(
                f"{self.where}: {key!r} is {state}", remedy="take the file from the repository of the weights"
            )
        return default

    def _refused(self, key: str, found: object, supported: str) -> ConfigError:
        return ConfigError(
            f"{self.where}: {key!r} is {_spell(found)}, phiedge supports {supported}",
            remedy="export a Phi-4-reasoning-vision checkpoint whose configuration has the supported value",
        )


def _same(value: object, candidate: object) -> bool:
    if isinstance(value, bool) or isinstance(candidate, bool):
        return value is candidate
    return value == candidate


def _spell(value: object) -> str:
    """The value as JSON spells it, shortened."""
    return json.dumps(value)[:80]
