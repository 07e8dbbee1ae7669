"""What is in a bundle, as people read it: a page of tables, and the long ones for those who ask for details."""

import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from phiedge.bundle.manifest import VISION_EIGHT_BITS
from phiedge.cli.console import SHOWN_CONTROL, show_table

if TYPE_CHECKING:
    from phiedge.bundle.graph_file import GraphValue
    from phiedge.pipeline.inspection import Inspection
    from phiedge.pipeline.inspection.engines import EngineGraph, EngineReport
    from phiedge.pipeline.inspection.graphs import DialectReport, GraphReport, OperatorCount
    from phiedge.pipeline.inspection.layers import Layer
    from phiedge.pipeline.inspection.usability import Obstacle

_HASH_LETTERS = 12
_PAGE = 66  # columns of text beside the names of an origin, of the 80 that a page has
_LAYER = re.compile(r"\.\d+\.")  # a cache is called after its layer: past.0.key


def show_inspection(found: "Inspection", *, details: bool, whole_hashes: bool) -> None:
    """Print all of it on stdout; with `details` also what has a line for every layer."""
    _show_origin(found)
    if found.parts:
        _section(("part", "file", "bytes", "sha256"), _part_rows(found, whole=whole_hashes), right="bytes")
    if found.layers:
        _section(
            ("of", "stored as", "layers", "weights", "MB", "bits", "worst error"),
            _precision_rows(found),
            right=("layers", "weights", "MB", "bits", "worst error"),
        )
    _show_graphs(found, details=details)
    if details and found.layers:
        _section(
            ("layer", "type", "shape", "MB", "error"),
            [_layer_row(layer) for layer in found.layers],
            right="shape MB error",
        )
    _show_engines(found, details=details)


def _show_origin(found: "Inspection") -> None:
    made, precision = found.provenance, found.precision
    groups = f" in groups of {precision.group_size}" if precision.group_size else ""
    target, title = made.target["name"], made.target.get("title")
    rows = [
        ("model", made.model.name),
        ("from", _told_source(found)),
        ("for", f"{target}" if title is None else f"{title} ({target})"),
        ("precision", f"{precision.name}{groups}"),
        *([("vision", precision.vision)] if precision.vision in VISION_EIGHT_BITS else []),
        *([] if precision.cache is None else [("cache", precision.cache)]),
        ("context", f"{found.max_context:,} positions"),
        *_maker_rows(
            ["phiedge " + made.phiedge_version, *(f"{name} {version}" for name, version in made.tools.items())]
        ),
        ("size", f"{found.bytes / 1e6:,.1f} MB in {found.files} files, all there; `phiedge verify` hashes them"),
        *(("not listed", name) for name in found.unlisted_files),
    ]
    show_table(None, ("", ""), rows)


def _maker_rows(makers: Sequence[str]) -> list[tuple[str, str]]:
    """Who made it, on as many lines as that takes."""
    lines = textwrap.wrap(", ".join(makers), _PAGE, break_long_words=False, break_on_hyphens=False)
    return [("" if row else "made by", line) for row, line in enumerate(lines)]


def _told_source(found: "Inspection") -> str:
    model = found.provenance.model
    read = f"{len(model.files)} files"
    told = {
        "reference": f"the reference model, {read}",
        "directory": f"a directory, {read}",
        "hub": f"{model.id} at {model.revision}, {read}",
        "random": f"random weights, {model.revision}",
    }
    return told[model.source]


def _part_rows(found: "Inspection", *, whole: bool) -> list[tuple[str, ...]]:
    letters = None if whole else _HASH_LETTERS
    return [
        (part.name if index == 0 else "", file.path, f"{file.bytes:,}", file.sha256[:letters])
        for part in found.parts
        for index, file in enumerate(part.files)
    ]


def _precision_rows(found: "Inspection") -> list[tuple[str, ...]]:
    alike: dict[tuple[str, str], list[Layer]] = {}
    for layer in found.layers:
        alike.setdefault((layer.part, _stored_as(layer)), []).append(layer)
    rows = [_precision_row(*kind, layers) for kind, layers in alike.items()]
    for part, others_bytes in found.other_weights_bytes.items():
        rows.append((part, "norms, biases, tables", "", "", _mb(others_bytes), "", ""))
    return rows


def _precision_row(part: str, stored_as: str, layers: Sequence["Layer"]) -> tuple[str, ...]:
    weights, stored_bytes = sum(layer.weights for layer in layers), sum(layer.stored_bytes for layer in layers)
    errors = [layer.relative_l2 for layer in layers if layer.relative_l2 is not None]
    bits = f"{8 * stored_bytes / weights:.2f}" if weights else ""
    worst = f"{max(errors):.3f}" if errors else ""
    return part, stored_as, str(len(layers)), f"{weights:,}", _mb(stored_bytes), bits, worst


def _stored_as(layer: "Layer") -> str:
    return layer.stored_as + (f", groups of {layer.group_size}" if layer.group_size else "")


def _layer_row(layer: "Layer") -> tuple[str, ...]:
    return (
        layer.name,
        layer.stored_as + (f"/{layer.group_size}" if layer.group_size else ""),
        "x".join(map(str, layer.shape)),
        _mb(layer.stored_bytes),
        "" if layer.relative_l2 is None else f"{layer.relative_l2:.3f}",
    )


def _show_graphs(found: "Inspection", *, details: bool) -> None:
    graphs = [graph for dialect in found.dialects for graph in (dialect.vision, dialect.decoder) if graph is not None]
    if not graphs:
        return
    _section(
        ("dialect", "opset", "computes in", "cache MB", "capacity", "reads MB"),
        [_dialect_row(dialect) for dialect in found.dialects],
        right=("opset", "cache MB", "capacity", "reads MB"),
    )
    _show_sharing(found)
    operators = [(graph.file, str(graph.nodes), _operators(graph.operators)) for graph in graphs]
    _section(("graph", "nodes", "operators"), operators, right="nodes")
    if details:
        ports = [row for graph in graphs for row in _port_rows(graph)]
        _section(("graph", "", "value", "type", "shape"), ports)


def _dialect_row(dialect: "DialectReport") -> tuple[str, ...]:
    return (
        dialect.name,
        str(dialect.opset),
        dialect.activations,
        _mb(dialect.cache_bytes),
        "as opened" if dialect.capacity is None else f"{dialect.capacity:,}",
        _mb(dialect.weights_bytes),
    )


def _show_sharing(found: "Inspection") -> None:
    shared = found.sharing
    if len(shared.read_bytes) > 1:
        _say(
            f"{_mb(shared.stored_bytes)} MB of weights are stored; {_mb(shared.shared_bytes)} MB of them serve several "
            f"dialects, which saves {_mb(shared.saved_bytes)} MB"
        )


def _operators(operators: Sequence["OperatorCount"]) -> str:
    return ", ".join(f"{operator.op_type}:{operator.count}" for operator in operators)


def _port_rows(graph: "GraphReport") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for direction, values in (("in", graph.inputs), ("out", graph.outputs)):
        for name, value in _by_kind(values):
            shape = " x ".join(map(str, value.shape)) or "one number"
            rows.append((graph.file if not rows else "", direction, name, value.dtype, shape))
    return rows


def _by_kind(values: Iterable["GraphValue"]) -> list[tuple[str, "GraphValue"]]:
    """The values, those that differ in nothing but the number of their layer as one: `past.*.key (40)`."""
    kinds: dict[tuple[str, str, tuple[int | str, ...]], list[GraphValue]] = {}
    for value in values:
        kinds.setdefault((_LAYER.sub(".*.", value.name), value.dtype, value.shape), []).append(value)
    return [
        (f"{kind[0]} ({len(of_kind)})" if len(of_kind) > 1 else of_kind[0].name, of_kind[0])
        for kind, of_kind in kinds.items()
    ]


def _show_engines(found: "Inspection", *, details: bool) -> None:
    if found.engines:
        _section(("engine", "", ""), [row for engine in found.engines for row in _engine_rows(engine)])
    obstacles: dict[Obstacle, list[str]] = {}
    for engine in found.engines:
        for obstacle in engine.obstacles:
            obstacles.setdefault(obstacle, []).append(engine.name)
    for obstacle, names in obstacles.items():
        _tell(f"not usable here: {', '.join(names)}: {obstacle.message}", obstacle.remedy)
    for damaged in found.damaged_engines:
        _tell(f"DAMAGED: {damaged.name}: {damaged.problem}", damaged.remedy)
    if details:
        for engine in found.engines:
            _show_kernels(engine)


def _engine_rows(engine: "EngineReport") -> list[tuple[str, str, str]]:
    facts = [
        ("built by", ", ".join(f"{name} {version}" for name, version in engine.tools.items())),
        ("built for", "; ".join(f"{name}: {found}" for name, found in engine.machine.items())),
        ("options", "; ".join(f"{name}: {chosen}" for name, chosen in engine.options.items())),
        ("size", f"{_mb(engine.bytes)} MB in {len(engine.files)} files"),
        *(fact for graph in engine.graphs for fact in _graph_facts(graph)),
        ("usable here", "yes" if engine.usable else "no, see below"),
    ]
    told = [fact for fact in facts if fact[1]]  # what is for no one machine says nothing of it
    return [(engine.name if index == 0 else "", *fact) for index, fact in enumerate(told)]


def _graph_facts(graph: "EngineGraph") -> list[tuple[str, str]]:
    if graph.operators:
        return [(graph.part, _operators(graph.operators))]
    stored = "" if graph.weights_bytes is None else f", {_mb(graph.weights_bytes)} MB of them weights"
    facts = [(graph.part, f"{_mb(graph.bytes)} MB{stored}")]
    for number, profile in enumerate(graph.profiles):
        int4 = f", {profile.int4_products} int4 products" if profile.int4_products else ""
        told = f"{profile.kernels} kernels, {profile.attentions} fused attentions{int4}"
        facts.append((f"  profile {number}", f"{told}; {_mb(profile.activation_bytes)} MB of activations"))
    return facts


def _show_kernels(engine: "EngineReport") -> None:
    for graph in engine.graphs:
        for number, profile in enumerate(graph.profiles):
            rows = [(str(kind.count), kind.kind) for kind in profile.kinds]
            _section(("kernels", f"{engine.name}, {graph.part}, profile {number}"), rows, right="kernels")


def _tell(message: str, remedy: str | None) -> None:
    print()
    _say(message)
    if remedy is not None:
        _say(f"remedy: {remedy}")


def _section(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: str | Sequence[str] = "") -> None:
    print()
    show_table(None, columns, rows, right=right)


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.2f}"


def _say(text: str) -> None:
    width = shutil.get_terminal_size((120, 24)).columns
    shown = text.translate(SHOWN_CONTROL)
    print(textwrap.fill(shown, width=width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
