"""The names that each TensorRT's Python module was seen to have, and stand-in modules that have exactly these.

A surface was recorded by importing the module of that release: classes with their members, enums with their values.
A stand-in computes nothing. A name outside its surface is an AttributeError, as it would be with that release, whether
it is read or written.
"""

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

_DIRECTORY = Path(__file__).parents[1] / "engines" / "tensorrt" / "surfaces"
RTX = "tensorrt-rtx-1.7.1"
JETPACK_6 = "tensorrt-10.3.0"
JETPACK_7 = "tensorrt-10.16.1"
TENSORRT_11 = "tensorrt-11.4.0"
SURFACES = (RTX, JETPACK_6, JETPACK_7, TENSORRT_11)


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The public names of one release; an enum inside a class is called `Class.Enum`."""

    module: str
    version: str
    classes: Mapping[str, tuple[str, ...]]
    enums: Mapping[str, Mapping[str, int]]
    functions: tuple[str, ...]
    values: tuple[str, ...]

    def has(self, path: str) -> bool:
        """Whether `trt.<path>` exists: a name, or a name and a member of it."""
        owner, _, member = path.rpartition(".")
        if not owner:
            return any(path in names for names in (self.classes, self.enums, self.functions, self.values))
        return member in self.classes.get(owner, ()) or member in self.enums.get(owner, ()) or path in self.enums


@cache
def surface(name: str) -> Surface:
    """The surface recorded as `name`, one of `SURFACES`."""
    recorded = json.loads((_DIRECTORY / f"{name}.json").read_text())
    return Surface(**recorded)


def stand_in(name: str) -> ModuleType:
    """A module with the names of that release, whose methods do nothing and answer None."""
    recorded = surface(name)
    module = ModuleType(recorded.module)
    vars(module)["__version__"] = recorded.version
    for title, members in recorded.enums.items():
        if "." not in title:
            vars(module)[title] = enum.IntEnum(title, dict(members))
    for title, names in recorded.classes.items():
        inner = {owned: _member(recorded, title, owned) for owned in names}
        vars(module)[title] = type(title, (), {**inner, "__init__": _nothing, "__setattr__": _set_member})
    for title in recorded.functions:
        vars(module)[title] = _nothing
    for title in recorded.values:
        vars(module)[title] = getattr(vars(module)["DataType"], _DATA_TYPES.get(title, title.upper()))
    return module


_DATA_TYPES = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16"}


def _member(recorded: Surface, title: str, name: str) -> object:
    nested = recorded.enums.get(f"{title}.{name}")
    return _nothing if nested is None else enum.IntEnum(name, dict(nested))


def _set_member(self: object, name: str, value: object) -> None:
    """A class of the module's own takes no attribute that it does not have; one derived from it may."""
    is_own = type(self).__mro__[1] is object
    if is_own and not hasattr(type(self), name):
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
    object.__setattr__(self, name, value)


def _nothing(*arguments: object, **options: object) -> None:
    return None
