"""The engines of a bundle: what they were built by and for, what is in them, and whether they serve this machine.

What is in an engine of ONNX Runtime its own graph tells; in one of TensorRT, which nobody can look into without a GPU,
what its builder told when it was made.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from phiedge.bundle import Bundle
from phiedge.bundle.graph_file import read_graph
from phiedge.engines.engine_record import BuiltEngine, find_engine
from phiedge.engines.tensorrt.build_log import BuildLog, ProfileLog
from phiedge.errors import BundleError
from phiedge.pipeline.inspection.graphs import OperatorCount, count_operators
from phiedge.pipeline.inspection.parts import PartFile
from phiedge.pipeline.inspection.usability import Obstacle, obstacles

_SERIAL = re.compile(r"^__myl_|_myl\d+_\d+( \[profile \d+\])?$|(?<=^__mye)\d+(_\d+)*")
_LAYER_NUMBER = re.compile(r"(?<=layers\.)\d+")
_GRAPH, _ENGINE, _LAYERS = ".onnx", ".engine", ".layers.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCount:
    """How often kernels of one kind run: those that the builder calls alike but for numbers, its own and of layers."""

    kind: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileReport:
    """The kernels of one profile, and the memory that they need beside weights and caches.

    `attentions` are fused, each in one kernel; `int4_products` read their weights as they are stored.
    """

    kernels: int
    attentions: int
    int4_products: int
    activation_bytes: int
    kinds: tuple[KernelCount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineGraph:
    """One of the two graphs in an engine; `operators` of ONNX Runtime, `profiles` of TensorRT.

    `weights_bytes` is what the builder told, None where nothing tells.
    """

    part: str
    file: str
    bytes: int
    weights_bytes: int | None
    operators: tuple[OperatorCount, ...]
    profiles: tuple[ProfileReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """An engine that holds together. `usable` says whether nothing stands in its way on this machine.

    `tools`, `machine`, `options` and `source` are those of its record.
    """

    name: str
    backend: str
    phiedge_version: str
    tools: Mapping[str, str]
    machine: Mapping[str, str]
    options: Mapping[str, str]
    source: Mapping[str, str]
    bytes: int
    files: tuple[PartFile, ...]
    graphs: tuple[EngineGraph, ...]
    usable: bool
    obstacles: tuple[Obstacle, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedEngine:
    """An engine that does not hold together: a file is missing or has another size, or its record cannot be read."""

    name: str
    problem: str
    remedy: str | None


def describe_engines(bundle: Bundle) -> tuple[tuple[EngineReport, ...], tuple[DamagedEngine, ...]]:
    """All engines of a bundle by name: those that hold together, and those that do not."""
    found = [_describe_named(bundle, name) for name in names_in(bundle.path / "engines")]
    whole = tuple(engine for engine in found if isinstance(engine, EngineReport))
    return whole, tuple(engine for engine in found if isinstance(engine, DamagedEngine))


def _describe_named(bundle: Bundle, name: str) -> EngineReport | DamagedEngine | None:
    try:
        engine = find_engine(bundle, name)
        return None if engine is None else _describe(engine, bundle)
    except BundleError as error:
        return DamagedEngine(name=printable(name), problem=error.message, remedy=error.remedy)


def names_in(directory: Path) -> list[str]:
    """What lies in a directory, without what is hidden; nothing where there is no directory."""
    names = [entry.name for entry in directory.iterdir()] if directory.is_dir() else []
    return sorted(name for name in names if not name.startswith("."))


def printable(name: str) -> str:
    """The name of a file as it can be shown and written as JSON; anybody may have put it there."""
    return name if name.isprintable() else ascii(name)


def _describe(engine: BuiltEngine, bundle: Bundle) -> EngineReport:
    record = engine.record
    files = tuple(PartFile(path=name, bytes=file.bytes, sha256=file.sha256) for name, file in record.files.items())
    found = obstacles(engine, bundle)
    return EngineReport(
        name=printable(engine.name),
        backend=record.backend,
        phiedge_version=record.phiedge_version,
        tools=record.tools,
        machine=record.machine,
        options=record.options,
        source=record.source,
        bytes=sum(file.bytes for file in files),
        files=files,
        graphs=(_graph(engine, "vision", record.vision), _graph(engine, "decoder", record.decoder)),
        usable=not found,
        obstacles=found,
    )


def _graph(engine: BuiltEngine, part: str, file: str) -> EngineGraph:
    layers = f"{file.removesuffix(_ENGINE)}{_LAYERS}"
    log = None
    if layers in engine.record.files:
        log = BuildLog.from_json(engine.file(layers).read_bytes())
    operators = count_operators(read_graph(engine.file(file)).nodes) if file.endswith(_GRAPH) else ()
    return EngineGraph(
        part=part,
        file=file,
        bytes=engine.record.files[file].bytes,
        weights_bytes=None if log is None else log.weights_bytes,
        operators=operators,
        profiles=() if log is None else tuple(_profile(profile) for profile in log.profiles),
    )


def _profile(profile: ProfileLog) -> ProfileReport:
    kinds = Counter(_kind(kernel.name) for kernel in profile.kernels)
    return ProfileReport(
        kernels=len(profile.kernels),
        attentions=len(profile.attentions),
        int4_products=profile.int4_products,
        activation_bytes=profile.activation_bytes,
        kinds=tuple(
            KernelCount(kind=kind, count=count)
            for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        ),
    )


def _kind(kernel: str) -> str:
    return _LAYER_NUMBER.sub("*", _SERIAL.sub("", kernel))
