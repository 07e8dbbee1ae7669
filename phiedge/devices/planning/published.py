"""What other engines were measured to reach: published.toml, read strictly, with what each measurement moved.

The share that a row reached of its device's limit is computed here from its model's shape, never written down, so that
all rows are held against one and the same roofline.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from phiedge.devices.catalogue import catalogue
from phiedge.devices.spec import Device, Figure, Source
from phiedge.devices.toml_table import TomlTable, as_count, as_number
from phiedge.errors import DeviceError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PUBLISHED = Path(__file__).parents[1] / "published.toml"
FAMILIES = ("compiled", "vllm", "llama.cpp")
ARITHMETICS = ("fp16", "int8", "fp8", "nvfp4")
_CACHE_BYTES = 2  # of one number in a cache: all rows are of FP16 caches


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a row was measured on, as far as efficiencies are alike: `gbps` from memory that is unified or discrete."""

    name: str
    sm: str
    unified: bool
    gbps: float
    fp16_tflops: float | None = None
    int8_tops: float | None = None
    fp8_tflops: float | None = None
    nvfp4_tflops: float | None = None

    def tflops(self, arithmetic: str) -> float | None:
        """The dense rate of that arithmetic; None where it is not known or the machine does not have it."""
        assert arithmetic in ARITHMETICS
        rates = (self.fp16_tflops, self.int8_tops, self.fp8_tflops, self.nvfp4_tflops)
        return dict(zip(ARITHMETICS, rates, strict=True))[arithmetic]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """How many weights a token multiplies by, and how many numbers one position adds to the cache."""

    title: str
    layer_weights: int
    head_weights: int
    position_values: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement: `ms` for one token of decoding or for a whole prompt, and the roofline of the same."""

    kind: str
    machine: Machine
    engine: str
    family: str
    model: Model
    format: str
    arithmetic: str
    tokens: int
    ms: float
    limit_ms: float
    source: Source
    note: str

    def __post_init__(self) -> None:
        if not 0 < self.limit_ms <= self.ms:
            raise DeviceError(
                f"{self.title} took {self.ms:.1f} ms, less than its limit of {self.limit_ms:.1f} ms",
                remedy="a row of published.toml, or a figure of the catalogue, is wrong",
            )

    @property
    def title(self) -> str:
        return f"{self.kind} of {self.model.title} ({self.format}) by {self.engine} on {self.machine.name}"

    @property
    def share(self) -> float:
        """How much of the limit was reached."""
        return self.limit_ms / self.ms


def machine_of(device: Device) -> Machine:
    """The device as efficiencies see it. Not for the CPU, which has no figures."""
    assert device.sm is not None, "every device but the CPU has it"
    assert device.bandwidth_gbps is not None, "every device but the CPU has it"
    return Machine(
        name=device.name,
        sm=device.sm.value,
        unified=device.memory_kind == "unified",
        gbps=device.bandwidth_gbps.value,
        fp16_tflops=_value(device.dense_fp16_tflops),
        int8_tops=_value(device.dense_int8_tops),
        fp8_tflops=_value(device.dense_fp8_tflops),
        nvfp4_tflops=_value(device.dense_nvfp4_tflops),
    )


def rows() -> tuple[Row, ...]:
    """Every row, in the order of the file."""
    return _read(PUBLISHED)


def parse(document: Mapping[str, object]) -> tuple[Row, ...]:
    """The rows of a parsed file; DeviceError names what breaks the schema."""
    root = TomlTable(where="published", entries=document)
    root.allow({"schema_version", "sources", "models", "formats", "cards", "decode", "prefill"})
    if document.get("schema_version") != 1:
        raise DeviceError(f"published.schema_version is {document.get('schema_version')!r}, not 1")
    known = _Known(
        sources={name: _source(name, table) for name, table in root.tables("sources").items()},
        models={name: _model(table) for name, table in root.tables("models").items()},
        formats={name: _format(table) for name, table in root.tables("formats").items()},
        machines={device.name: machine_of(device) for device in catalogue() if device.sm is not None}
        | {name: _card(table) for name, table in root.tables("cards").items()},
    )
    decode = tuple(_decode(table, known) for table in _list(root, "decode"))
    return decode + tuple(_prefill(table, known) for table in _list(root, "prefill"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What rows refer to by name; a format is its bits per weight in the layers and in the head."""

    sources: Mapping[str, Source]
    models: Mapping[str, Model]
    formats: Mapping[str, tuple[float, float]]
    machines: Mapping[str, Machine]


@cache
def _read(path: Path) -> tuple[Row, ...]:
    return parse(tomllib.loads(path.read_text(encoding="utf-8")))


def _decode(table: TomlTable, known: _Known) -> Row:
    shared = {"device", "engine", "family", "model", "source", "note"}
    table.allow({*shared, "format", "context", "tokens_per_s"})
    machine, model = table.named("device", known.machines), table.named("model", known.models)
    layer_bits, head_bits = table.named("format", known.formats)
    context = table.get("context", as_count, "a whole number")
    weights = model.layer_weights * layer_bits / 8 + model.head_weights * head_bits / 8
    read_bytes = weights + _CACHE_BYTES * model.position_values * context
    return Row(
        kind="decode",
        machine=machine,
        engine=table.text("engine"),
        family=_word(table, "family", FAMILIES),
        model=model,
        format=table.text("format"),
        arithmetic="fp16",
        tokens=context,
        ms=1000 / table.get("tokens_per_s", as_number, "a number"),
        limit_ms=read_bytes / machine.gbps / 1e6,
        source=table.named("source", known.sources),
        note=table.maybe_text("note") or "",
    )


def _prefill(table: TomlTable, known: _Known) -> Row:
    shared = {"device", "engine", "family", "model", "source", "note"}
    table.allow({*shared, "arithmetic", "tokens", "ms", "peak_tflops"})
    machine, model = table.named("device", known.machines), table.named("model", known.models)
    arithmetic = _word(table, "arithmetic", ARITHMETICS)
    tokens = table.get("tokens", as_count, "a whole number")
    peak = table.get("peak_tflops", as_number, "a number") if "peak_tflops" in table.entries else None
    tflops = peak or machine.tflops(arithmetic)
    if tflops is None:
        raise DeviceError(f"{table.where}: {machine.name} has no rate for {arithmetic}", remedy="give peak_tflops")
    # Attention grows with the square of a prompt, and is a few percent at these lengths: it is left out, as it is small
    # beside the spread of the rows and its shape is not known for every model.
    flop = 2 * (model.layer_weights * tokens + model.head_weights)
    return Row(
        kind="prefill",
        machine=machine,
        engine=table.text("engine"),
        family=_word(table, "family", FAMILIES),
        model=model,
        format=arithmetic,
        arithmetic=arithmetic,
        tokens=tokens,
        ms=table.get("ms", as_number, "a number"),
        limit_ms=flop / tflops / 1e9,
        source=table.named("source", known.sources),
        note=table.maybe_text("note") or "",
    )


def _list(root: TomlTable, key: str) -> list[TomlTable]:
    entries = root.get(key, lambda value: value if isinstance(value, list) else None, "a list of tables")
    return [
        TomlTable(where=f"{root.where}.{key}[{place}]", entries=entry if isinstance(entry, dict) else {})
        for place, entry in enumerate(entries)
    ]


def _source(name: str, table: TomlTable) -> Source:
    table.allow({"title", "url"})
    return Source(name=name, title=table.text("title"), url=table.maybe_text("url"))


def _model(table: TomlTable) -> Model:
    table.allow({"title", "layer_weights", "head_weights", "position_values", "note"})
    counts = {
        key: table.get(key, as_count, "a whole number") for key in ("layer_weights", "head_weights", "position_values")
    }
    return Model(title=table.text("title"), **counts)


def _format(table: TomlTable) -> tuple[float, float]:
    table.allow({"title", "layer_bits", "head_bits"})
    return table.get("layer_bits", as_number, "a number"), table.get("head_bits", as_number, "a number")


def _card(table: TomlTable) -> Machine:
    table.allow({"title", "sm", "bandwidth_gbps"})
    gbps = table.get("bandwidth_gbps", as_number, "a number")
    return Machine(name=table.text("title"), sm=table.text("sm"), unified=False, gbps=gbps)


def _word(table: TomlTable, key: str, known: tuple[str, ...]) -> str:
    return table.get(key, lambda value: value if isinstance(value, str) and value in known else None, f"one of {known}")


def _value(figure: Figure[float] | None) -> float | None:
    return None if figure is None else figure.value
