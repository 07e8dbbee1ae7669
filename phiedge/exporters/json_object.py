"""Reading a JSON object from a checkpoint, without trusting it.

A key that stands twice, a constant that JSON does not have (`NaN`) and anything but an object are refused: each would
let two readers of the same file see different models.
"""

import json
from pathlib import Path

from phiedge.errors import CheckpointError, ConfigError

JsonObject = dict[str, object]


def read_object(path: Path) -> JsonObject:
    """The JSON object in the file at `path`. Raises `ConfigError` naming the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path} does not exist", remedy=f"copy {path.name} from the repository that the weights came from"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    return parse_object(text, str(path))


def parse_object(text: str | bytes, where: str) -> JsonObject:
    """The JSON object in `text`; `where` names its file in errors. Raises `ConfigError`."""
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except CheckpointError as error:
        raise ConfigError(f"{where}: {error.message}", remedy="fetch the file again") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not JSON: {error}", remedy="fetch the file again") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{where} holds a JSON {type(value).__name__}, not an object", remedy="fetch the file again")
    return value


def _without_repeats(pairs: list[tuple[str, object]]) -> JsonObject:
    found: JsonObject = {}
    for key, value in pairs:
        if key in found:
            raise ConfigError(f"the key {key!r} stands twice")
        found[key] = value
    return found


def _no_constant(name: str) -> float:
    raise ConfigError(f"{name} is not a JSON number")
