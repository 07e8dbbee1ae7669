"""Reading catalogue.toml and finding a device in it by name or alias.

The schema is strict: a figure without a source, a source that is not declared, a key that is not known and an alias
that leads nowhere are all refused, with the place named.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TypeVar

from phiedge.devices.spec import Device, Figure, Source, Stack
from phiedge.devices.toml_table import TomlTable, as_count, as_flag, as_number, as_text, as_texts
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
    root = TomlTable(where="catalogue", entries=document)
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


_Sources = Mapping[str, Source]


def _figure(
    outer: TomlTable, key: str, read: Callable[[object], T | None], what: str, sources: _Sources
) -> Figure[T] | None:
    """The figure of that key, or None where the table has none."""
    if key not in outer.entries:
        return None
    table = outer.table(key)
    table.allow({"value", "source", "verified", "note"})
    return Figure(
        value=table.get("value", read, what),
        source=table.named("source", sources),
        verified=table.get("verified", as_flag, "true or false"),
        note=table.maybe_text("note") or "",
    )


def _source(name: str, table: TomlTable) -> Source:
    table.allow({"title", "url"})
    return Source(name=name, title=table.text("title"), url=table.maybe_text("url"))


def _stack(name: str, table: TomlTable, sources: _Sources) -> Stack:
    table.allow({"title", "system", "cuda", "tensorrt", "python", "source", "verified", "note"})
    return Stack(
        name=name,
        title=table.text("title"),
        system=table.text("system"),
        cuda=table.maybe_text("cuda"),
        tensorrt=table.maybe_text("tensorrt"),
        python=table.text("python"),
        source=table.named("source", sources),
        verified=table.get("verified", as_flag, "true or false"),
        note=table.maybe_text("note") or "",
    )


_DEVICE_KEYS = {field.name for field in fields(Device)} - {"name"}


def _device(name: str, table: TomlTable, sources: _Sources, stacks: Mapping[str, Stack]) -> Device:
    table.allow(_DEVICE_KEYS)

    def count(key: str) -> Figure[int] | None:
        return _figure(table, key, as_count, "a whole number", sources)

    def rate(key: str) -> Figure[float] | None:
        return _figure(table, key, as_number, "a number", sources)

    return Device(
        name=name,
        title=table.text("title"),
        kind=table.text("kind"),
        memory_kind=table.text("memory_kind"),
        precisions=_precisions(table, sources),
        sm=_figure(table, "sm", as_text, "a text", sources),
        memory_bytes=count("memory_bytes"),
        visible_bytes=count("visible_bytes"),
        bandwidth_gbps=rate("bandwidth_gbps"),
        dense_fp16_tflops=rate("dense_fp16_tflops"),
        dense_int8_tops=rate("dense_int8_tops"),
        dense_fp8_tflops=rate("dense_fp8_tflops"),
        dense_nvfp4_tflops=rate("dense_nvfp4_tflops"),
        power_modes=_figure(table, "power_modes", as_texts, "a list of texts", sources),
        stacks=_chosen(table, stacks),
        notes=table.texts("notes"),
    )


def _precisions(table: TomlTable, sources: _Sources) -> Figure[tuple[str, ...]]:
    precisions = _figure(table, "precisions", as_texts, "a list of texts", sources)
    if precisions is None:
        raise DeviceError(f"{table.where}.precisions is missing", remedy="a list of texts is needed there")
    return precisions


def _chosen(table: TomlTable, stacks: Mapping[str, Stack]) -> tuple[Stack, ...]:
    names = table.texts("stacks")
    unknown = [name for name in names if name not in stacks]
    if unknown:
        raise DeviceError(f"{table.where}.stacks names {unknown[0]!r}", remedy=f"declared stacks: {[*stacks]}")
    return tuple(stacks[name] for name in names)


def _aliases(table: TomlTable, devices: set[str]) -> dict[str, str]:
    pairs = {alias: table.text(alias) for alias in table.entries}
    for alias, target in pairs.items():
        if target not in devices or alias in devices:
            raise DeviceError(
                f"{table.where}.{alias} leads to {target!r}", remedy="an alias is a new name for a device that exists"
            )
    return pairs
