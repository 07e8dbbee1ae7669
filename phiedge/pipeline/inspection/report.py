"""All that is known of a bundle without opening a session, as one value and as JSON."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from phiedge.bundle import Bundle, ModelFacts, ModelSource, Precision
from phiedge.bundle.manifest import Fact
from phiedge.bundle.reading import found_files
from phiedge.bundle.record import Json, encode
from phiedge.errors import UsageError, nearest
from phiedge.pipeline.inspection.engines import DamagedEngine, EngineReport, describe_engines, names_in, printable
from phiedge.pipeline.inspection.extents import Sharing, covered_bytes, sharing
from phiedge.pipeline.inspection.graphs import (
    GRAPHS,
    DialectGraphs,
    DialectReport,
    describe_dialect,
    read_dialects,
    weight_extents,
)
from phiedge.pipeline.inspection.layers import Layer, find_layers
from phiedge.pipeline.inspection.parts import Part, parts
from phiedge.pipeline.inspection.quantisation import read_quantisation

SCHEMA_VERSION = 1
ENGINES = "engines"
PART_NAMES = (
    "vision",
    "decoder",
    "embeddings",
    "positions",
    "tokenizer",
    "template",
    "goldens",
    "report",
    ENGINES,
)
_GRAPH_OF_LAYERS = {"vision": "vision", "projector": "vision", "decoder": "decoder", "lm_head": "decoder"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a bundle was made from, for which device, and by what."""

    phiedge_version: str
    manifest_schema_version: int
    model: ModelSource
    target: Mapping[str, Fact]
    tools: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What `phiedge inspect` says; documented key by key in docs/reference/inspect.md.

    `unlisted_files` lie in the bundle and not in its manifest. `other_weights_bytes` are norms, biases and tables: what
    graphs read and no layer has. `quantization` is the report without its rows, which
    stand in `layers`.
    """

    schema_version: int = SCHEMA_VERSION
    bundle: str
    files: int
    bytes: int
    unlisted_files: tuple[str, ...]
    provenance: Provenance
    facts: ModelFacts
    precision: Precision
    max_context: int
    parts: tuple[Part, ...]
    dialects: tuple[DialectReport, ...]
    sharing: Sharing
    layers: tuple[Layer, ...]
    other_weights_bytes: Mapping[str, int]
    quantization: Mapping[str, Json] | None
    engines: tuple[EngineReport, ...]
    damaged_engines: tuple[DamagedEngine, ...]
    profiles: tuple[str, ...]

    def as_dict(self) -> dict[str, Json]:
        """The JSON object of `phiedge inspect --json`."""
        value = encode(self)
        assert isinstance(value, dict)
        return value


def inspect_bundle(bundle: Bundle) -> Inspection:
    """Look into `bundle`, without its weights: graphs, layers, engines.

    Raises `BundleError` for a damaged graph or report; damaged engines are part of what is told.
    """
    manifest = bundle.manifest
    dialects = read_dialects(bundle)
    report = read_quantisation(bundle)
    layers = find_layers(dialects, {} if report is None else report.errors)
    engines, damaged = describe_engines(bundle)
    return Inspection(
        bundle=str(bundle.path),
        files=len(manifest.files),
        bytes=sum(entry.bytes for entry in manifest.files.values()),
        unlisted_files=tuple(printable(name) for name in found_files(bundle.path) if name not in manifest.files),
        provenance=Provenance(
            phiedge_version=manifest.phiedge_version,
            manifest_schema_version=manifest.schema_version,
            model=manifest.model,
            target=manifest.target,
            tools=manifest.tools,
        ),
        facts=manifest.facts,
        precision=manifest.precision,
        max_context=manifest.max_context,
        parts=parts(manifest),
        dialects=tuple(describe_dialect(bundle, read) for read in dialects),
        sharing=_sharing(bundle, dialects),
        layers=layers,
        other_weights_bytes={graph: _other_bytes(graph, dialects, layers) for graph in GRAPHS},
        quantization=None if report is None else report.summary,
        engines=engines,
        damaged_engines=damaged,
        profiles=tuple(map(printable, names_in(bundle.path / "profiles"))),
    )


def check_parts(names: Collection[str]) -> None:
    """Raises `UsageError` for a part that no bundle has."""
    for name in names:
        if name not in PART_NAMES:
            close = nearest(name, PART_NAMES) or list(PART_NAMES)
            raise UsageError(f"a bundle has no part {name!r}", remedy=f"use --part {' or '.join(close)}")


def only(inspection: Inspection, names: Collection[str]) -> Inspection:
    """The same, of the parts `names` alone; what is about the whole bundle stays."""
    check_parts(names)
    present = {part.name for part in inspection.parts} | {ENGINES}
    for name in names:
        if name not in present:
            raise UsageError(
                f"{inspection.bundle} has no {name}", remedy=f"it has {', '.join(sorted(present))}; leave --part out"
            )
    engines = ENGINES in names
    return replace(
        inspection,
        parts=tuple(part for part in inspection.parts if part.name in names),
        dialects=tuple(
            replace(
                dialect,
                vision=dialect.vision if "vision" in names else None,
                decoder=dialect.decoder if "decoder" in names else None,
            )
            for dialect in inspection.dialects
        ),
        layers=tuple(layer for layer in inspection.layers if _GRAPH_OF_LAYERS[layer.part] in names),
        other_weights_bytes={name: count for name, count in inspection.other_weights_bytes.items() if name in names},
        engines=inspection.engines if engines else (),
        damaged_engines=inspection.damaged_engines if engines else (),
    )


def _other_bytes(graph: str, dialects: list[DialectGraphs], layers: Collection[Layer]) -> int:
    """What graphs of one kind read, whatever their dialect, beside the linear layers."""
    read_bytes = covered_bytes(
        extent for dialect in dialects for extent in weight_extents(dialect.graphs[graph].weights)
    )
    return read_bytes - sum(layer.stored_bytes for layer in layers if _GRAPH_OF_LAYERS[layer.part] == graph)


def _sharing(bundle: Bundle, dialects: list[DialectGraphs]) -> Sharing:
    extents = {read.name: read.extents() for read in dialects}
    files = {extent.file for of_dialect in extents.values() for extent in of_dialect}
    stored_bytes = sum(bundle.manifest.files[file].bytes for file in files)
    return sharing(stored_bytes, extents)
