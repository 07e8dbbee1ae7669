"""Reading catalogue.toml and finding a device in it by name or alias.

The schema is strict: a figure without a source, a source that is not declared, a key that is not known and an alias
that leads nowhere are all refused, with the place named.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TypeVar

from phiedge.devices.spec import Device, Figure, Source, Stack
from phiedge.errors import DeviceError, UnknownDeviceError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

CATALOGUE = Path(__file__).with_name("catalogue.toml")

Catalogue = tuple[tuple[Device, ...], dict[str, str]]


def find(name: str) -> Device:
    """The device of that name or alias, whatever the case; otherwise UnknownDeviceError, with the nearest names."""
    devices = {device.name: device for device in catalogue()}
    folded = name.strip().casefold()
    known = devices.get(aliases().get(folded, folded))
    if known is not None:
        return known
    close = nearest(name, [*devices, *aliases()])
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    raise UnknownDeviceError(
        f"no device is called {name!r}", remedy=f"{meant}`phiedge devices list` shows all {len(devices)}"
    )


def catalogue() -> tuple[Device, ...]:
    """Every device, in the order of the file."""
    return _read(CATALOGUE)[0]


def aliases() -> dict[str, str]:
    """Short names and the device that each stands for; catalogue.toml says why."""
    return dict(_read(CATALOGUE)[1])


def parse(document: Mapping[str, object]) -> Catalogue:
    """Devices and aliases of a parsed catalogue; DeviceError names what breaks the schema."""
    root = _Table(where="catalogue", entries=document)
    root.allow({"schema_version", "sources", "stacks", "devices", "aliases"})
    if document.get("schema_version") != 1:
        raise DeviceError(f"catalogue.schema_version is {document.get('schema_version')!r}, not 1")
    sources = {name: _source(name, table) for name, table in root.tables("sources").items()}
    stacks = {name: _stack(name, table, sources) for name, table in root.tables("stacks").items()}
    devices = tuple(_device(name, table, sources, stacks) for name, table in root.tables("devices").items())
    return devices, _aliases(root.table("aliases"), {device.name for device in devices})


@cache
def _read(path: Path) -> Catalogue:
    return parse(tomllib.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
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
        return self.get(key, _as_text, "a text")

    def maybe_text(self, key: str) -> str | None:
        return self.text(key) if key in self.entries else None

    def texts(self, key: str) -> tuple[str, ...]:
        return self.get(key, _as_texts, "a list of texts") if key in self.entries else ()

    def table(self, key: str) -> "_Table":
        return _Table(where=f"{self.where}.{key}", entries=self.get(key, _as_table, "a table"))

    def tables(self, key: str) -> dict[str, "_Table"]:
        outer = self.table(key)
        return {name: outer.table(name) for name in outer.entries}

    def named(self, key: str, known: Mapping[str, T]) -> T:
        return self.get(key, lambda value: known.get(value) if isinstance(value, str) else None, f"one of {[*known]}")

    def figure(self, key: str, read: Callable[[object], T | None], what: str, sources: "_Sources") -> Figure[T]:
        table = self.table(key)
        table.allow({"value", "source", "verified", "note"})
        return Figure(
            value=table.get("value", read, what),
            source=table.named("source", sources),
            verified=table.get("verified", _as_flag, "true or false"),
            note=table.maybe_text("note") or "",
        )

    def maybe(self, key: str, read: Callable[[object], T | None], what: str, sources: "_Sources") -> Figure[T] | None:
        return self.figure(key, read, what, sources) if key in self.entries else None


_Sources = Mapping[str, Source]


def _source(name: str, table: _Table) -> Source:
    table.allow({"title", "url"})
    return Source(name=name, title=table.text("title"), url=table.maybe_text("url"))


def _stack(name: str, table: _Table, sources: _Sources) -> Stack:
    table.allow({"title", "system", "cuda", "tensorrt", "python", "source", "verified", "note"})
    return Stack(
        name=name,
        title=table.text("title"),
        system=table.text("system"),
        cuda=table.maybe_text("cuda"),
        tensorrt=table.maybe_text("tensorrt"),
        python=table.text("python"),
        source=table.named("source", sources),
        verified=table.get("verified", _as_flag, "true or false"),
        note=table.maybe_text("note") or "",
    )


_DEVICE_KEYS = {field.name for field in fields(Device)} - {"name"}


def _device(name: str, table: _Table, sources: _Sources, stacks: Mapping[str, Stack]) -> Device:
    table.allow(_DEVICE_KEYS)

    def count(key: str) -> Figure[int] | None:
        return table.maybe(key, _as_count, "a whole number", sources)

    def rate(key: str) -> Figure[float] | None:
        return table.maybe(key, _as_number, "a number", sources)

    return Device(
        name=name,
        title=table.text("title"),
        kind=table.text("kind"),
        memory_kind=table.text("memory_kind"),
        precisions=table.figure("precisions", _as_texts, "a list of texts", sources),
        sm=table.maybe("sm", _as_text, "a text", sources),
        memory_bytes=count("memory_bytes"),
        visible_bytes=count("visible_bytes"),
        bandwidth_gbps=rate("bandwidth_gbps"),
        dense_fp16_tflops=rate("dense_fp16_tflops"),
        dense_int8_tops=rate("dense_int8_tops"),
        dense_fp8_tflops=rate("dense_fp8_tflops"),
        dense_nvfp4_tflops=rate("dense_nvfp4_tflops"),
        power_modes=table.maybe("power_modes", _as_texts, "a list of texts", sources),
        stacks=_chosen(table, stacks),
        notes=table.texts("notes"),
    )


def _chosen(table: _Table, stacks: Mapping[str, Stack]) -> tuple[Stack, ...]:
    names = table.texts("stacks")
    unknown = [name for name in names if name not in stacks]
    if unknown:
        raise DeviceError(f"{table.where}.stacks names {unknown[0]!r}", remedy=f"declared stacks: {[*stacks]}")
    return tuple(stacks[name] for name in names)


def _aliases(table: _Table, devices: set[str]) -> dict[str, str]:
    pairs = {alias: table.text(alias) for alias in table.entries}
    for alias, target in pairs.items():
        if target not in devices or alias in devices:
            raise DeviceError(
                f"{table.where}.{alias} leads to {target!r}", remedy="an alias is a new name for a device that exists"
            )
    return pairs


def _as_text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _as_flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _as_count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _as_number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _as_texts(value: object) -> tuple[str, ...] | None:
    texts = tuple(item for item in value if isinstance(item, str) and item) if isinstance(value, list) else ()
    return texts if isinstance(value, list) and len(texts) == len(value) else None


def _as_table(value: object) -> Mapping[str, object] | None:
    return value if isinstance(value, dict) else None
