"""From an open checkpoint to the graphs, weights and tables of a bundle.

    trace -> draft -> dialect passes -> names -> lay out -> stream the weights -> save

The graphs of all dialects are drafted before the first weight is read: what they have in common is then written once,
into one file for the vision graphs and one for the decoders, in one pass over the source. Nothing here opens or closes
the bundle, hashes files or judges accuracy.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import onnx_ir as ir

from phiedge.bundle import Dialect, FileEntry, Table, data_name
from phiedge.errors import UsageError, nearest
from phiedge.exporters.cache_scales import CacheScales
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.dialects.ort import to_ort_decoder, to_ort_vision
from phiedge.exporters.dialects.ort.cache import use_int8_cache
from phiedge.exporters.dialects.tensorrt import FORMS, to_tensorrt_decoder, to_tensorrt_vision
from phiedge.exporters.draft import GraphDraft, check_consumed, draft_graph
from phiedge.exporters.journal import Journal
from phiedge.exporters.node_names import name_nodes
from phiedge.exporters.precision import PrecisionPlan, for_tensorrt
from phiedge.exporters.quantised import QuantisedTensor, Quantiser
from phiedge.exporters.rotary import rotary_tables
from phiedge.exporters.source import ModelSource
from phiedge.exporters.tables import embeddings, positions
from phiedge.exporters.tensors import EMBEDDING_TABLE, POSITION_TABLE, vision_tensor
from phiedge.exporters.trace import OPSET, trace_decoder, trace_vision
from phiedge.exporters.weight_stream import write_weights
from phiedge.exporters.weights import DataFile, Fill
from phiedge.progress import Progress, silent


class DecoderPasses(Protocol):
    """What a dialect does to a decoder. `activation_scales` are for float8, of each linear's input by its weight."""

    def __call__(
        self, draft: GraphDraft, plan: PrecisionPlan, *, activation_scales: Mapping[str, float] | None = None
    ) -> None: ...


class VisionPasses(Protocol):
    """What a dialect does to a vision graph. `input_scales` are for linears in 8 bits, by the tensors of weights."""

    def __call__(
        self, draft: GraphDraft, plan: PrecisionPlan, *, input_scales: Mapping[str, float] | None = None
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DialectPasses:
    """A dialect: its opset, its form of a plan (other types, the same weights), and what it does to the graphs."""

    opset: int
    plan: Callable[[PrecisionPlan], PrecisionPlan]
    vision: VisionPasses
    decoder: DecoderPasses


DIALECTS = {
    "ort": DialectPasses(opset=OPSET, plan=lambda plan: plan, vision=to_ort_vision, decoder=to_ort_decoder),
} | {
    form.name: DialectPasses(
        opset=form.opset,
        plan=for_tensorrt,
        vision=partial(to_tensorrt_vision, form=form),
        decoder=partial(to_tensorrt_decoder, form=form),
    )
    for form in FORMS.values()
}


CACHE_DIALECT = "ort"  # whose attention reads a cache in 8 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFacts:
    """What was written, as the manifest and the report need it.

    `files` are all files in the output directory, `entries` the hashes of those that were hashed while they were
    written; `quantised` is in the order of the forward pass.
    """

    dialects: Mapping[str, Dialect]
    embed_tokens: Table
    positions: Table
    quantised: tuple[QuantisedTensor, ...]
    files: tuple[str, ...]
    entries: Mapping[str, FileEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """Lets `write_graphs` go on where a killed export of the same ended, and keep a journal for one that comes after.

    `versions` are the tools' whose change makes another export of it; `notice` is told of what is thrown away.
    """

    versions: Mapping[str, str]
    notice: Callable[[str], None]


def write_graphs(
    source: ModelSource,
    *,
    precision: PrecisionPlan,
    dialects: Sequence[str] = ("ort",),
    max_context: int,
    out_dir: Path,
    quantiser: Quantiser,
    cache_scales: CacheScales | None = None,
    activation_scales: Mapping[str, float] | None = None,
    vision_scales: Mapping[str, float] | None = None,
    continuation: Continuation | None = None,
    require_space: Callable[[int], None] | None = None,
    progress: Progress = silent,
) -> GraphFacts:
    """Write both graphs of every dialect, their weights and the host's two tables; same input, same bytes.

    `activation_scales` are what the inputs of float8 linears are divided by, by the names of their weights, and
    `vision_scales` those of linears of the vision graph in 8 bits;
    `cache_scales` those of a precision with a cache in 8 bits. `require_space` is called with the bytes that weights
    and tables take before any is written, and may refuse them.
    Raises `UsageError` for a dialect or context that does not exist, `ExportError` where the model does not fit the
    precision, `TensorError` for weights that are not finite.
    """
    config = source.config
    _check_request(config, dialects, max_context)
    _check_cache(config, precision, dialects, cache_scales)
    scales = _Scales(cache=cache_scales, decoder=activation_scales, vision=vision_scales)
    graphs = _draft(config, precision, dialects, max_context, scales, progress)
    used = [name for name, spec in config.tensors().items() if spec.used]
    for dialect in dialects:
        consumed = [name for graph in _names(dialect) for name in graphs[graph].sources()]
        check_consumed([*consumed, EMBEDDING_TABLE, POSITION_TABLE], used)

    embed_tokens, embed_fill = embeddings(source)
    position_table, position_fill = positions(source)
    fills: dict[str, list[Fill]] = {embed_tokens.file: [embed_fill], position_table.file: [position_fill]}
    for name, draft in graphs.items():
        fills.setdefault(data_name(name), []).extend(draft.fills.values())
    ranks = {name: rank for rank, name in enumerate(source.names())}
    data_files = [DataFile.lay_out(name, of_file, ranks) for name, of_file in fills.items()]
    journal = None
    if continuation is not None:
        key = _key(source, precision, quantiser, data_files, continuation.versions, cache_scales)
        journal = Journal(out_dir, key, notice=continuation.notice)
    if require_space is not None:
        require_space(sum(file.size_bytes for file in data_files))
    written = write_weights(data_files, source, quantiser, out_dir, journal=journal, progress=progress)
    offsets = {file.name: file.offsets for file in data_files}
    for name, draft in graphs.items():
        name_nodes(draft.graph)
        save_graph(draft, out_dir / name, offsets[data_name(name)])
    places = {name: place for place, name in enumerate(used)}
    return GraphFacts(
        dialects={dialect: _describe(dialect, precision, max_context) for dialect in dialects},
        embed_tokens=embed_tokens,
        positions=position_table,
        quantised=tuple(sorted(written.rows, key=lambda row: places[row.name])),
        files=(*fills, *graphs),
        entries=written.entries,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scales:
    """The numbers that calibration found for what flows through the graphs."""

    cache: CacheScales | None
    decoder: Mapping[str, float] | None
    vision: Mapping[str, float] | None


def _draft(
    config: ModelConfig,
    precision: PrecisionPlan,
    dialects: Sequence[str],
    max_context: int,
    scales: _Scales,
    progress: Progress,
) -> dict[str, GraphDraft]:
    """The graphs of all dialects by the names of their files. Dialects that compute in the same types share a trace."""
    traced: dict[tuple[str, str], tuple[GraphDraft, GraphDraft]] = {}
    graphs: dict[str, GraphDraft] = {}
    with progress.task("trace", 2 * len(dialects), "graphs") as advance:
        for dialect in dialects:
            passes = DIALECTS[dialect]
            plan = passes.plan(precision)
            types = (plan.activations, plan.norms)
            if types not in traced:
                traced[types] = draft_vision(config, plan), draft_decoder(config, plan, max_context=max_context)
            vision, decoder = (draft.copy() for draft in traced[types])
            passes.vision(vision, plan, input_scales=scales.vision)
            advance(1)
            passes.decoder(decoder, plan, activation_scales=scales.decoder)
            if scales.cache is not None:
                use_int8_cache(decoder, scales.cache)
            advance(1)
            graphs |= dict(zip(_names(dialect), (vision, decoder), strict=True))
    return graphs


def _names(dialect: str) -> tuple[str, str]:
    return f"vision.{dialect}.onnx", f"decoder.{dialect}.onnx"


def _describe(dialect: str, precision: PrecisionPlan, max_context: int) -> Dialect:
    vision, decoder = _names(dialect)
    passes = DIALECTS[dialect]
    return Dialect(
        vision=vision,
        decoder=decoder,
        opset=passes.opset,
        max_context=max_context,
        activations=passes.plan(precision).activations,
    )


def draft_vision(config: ModelConfig, precision: PrecisionPlan) -> GraphDraft:
    """Trace the vision graph in the plan's types and connect its weights to the checkpoint."""
    traced = trace_vision(config, precision.activations, norms=precision.norms)
    return draft_graph(traced, checkpoint_name=vision_tensor, computed={})


def draft_decoder(config: ModelConfig, precision: PrecisionPlan, *, max_context: int) -> GraphDraft:
    """Trace the decoder graph in the plan's types and connect its weights to the checkpoint."""
    cos, sin = rotary_tables(config.head_dim, config.rope_theta, max_context)
    return draft_graph(
        trace_decoder(config, precision.activations, norms=precision.norms, max_context=max_context),
        checkpoint_name=lambda parameter: parameter,
        computed={"cos_cache": lambda: cos, "sin_cache": lambda: sin},
    )


def save_graph(draft: GraphDraft, path: Path, offsets: Mapping[str, int]) -> None:
    """Write `path`, whose weights lie at `offsets` of the file beside it."""
    for slot in (slot for fill in draft.fills.values() for slot in fill.slots):
        draft.graph.initializers[slot.name].const_value = ir.ExternalTensor(
            data_name(path.name),
            offsets[slot.key],
            slot.size_bytes,
            slot.dtype,
            shape=ir.Shape(slot.shape),
            name=slot.name,
            base_dir=path.parent,
        )
    unfilled = [name for name, value in draft.graph.initializers.items() if value.const_value is None]
    assert not unfilled, f"weights without a fill: {unfilled}"
    ir.save(draft.model, path)


def _key(
    source: ModelSource,
    precision: PrecisionPlan,
    quantiser: Quantiser,
    data_files: Sequence[DataFile],
    versions: Mapping[str, str],
    cache_scales: CacheScales | None,
) -> str:
    """A hash of all that the data files' bytes depend on."""
    told = {
        "source": dict(source.fingerprint()),
        "precision": asdict(precision),
        "method": quantiser.method,
        "cache": None if cache_scales is None else cache_scales.digest(),
        "files": {file.name: dict(file.offsets) for file in data_files},
        "versions": dict(versions),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _check_request(config: ModelConfig, dialects: Sequence[str], max_context: int) -> None:
    for dialect in dialects:
        if dialect not in DIALECTS:
            close = nearest(dialect, DIALECTS) or list(DIALECTS)
            raise UsageError(f"unknown dialect {dialect!r}", remedy=f"use {' or '.join(close)}")
    if not 1 <= max_context <= config.max_position_embeddings:
        raise UsageError(
            f"a context of {max_context} tokens: the model has positions for 1 to {config.max_position_embeddings}",
            remedy=f"--max-context {config.max_position_embeddings} or less",
        )


def _check_cache(
    config: ModelConfig, precision: PrecisionPlan, dialects: Sequence[str], cache_scales: CacheScales | None
) -> None:
    if (precision.cache is None) != (cache_scales is None):
        raise UsageError(
            f"a cache of {precision.cache or precision.activations} "
            f"{'needs scales' if cache_scales is None else 'has no scales'}",
            remedy="give scales for a cache in int8, and for no other",
        )
    if cache_scales is None:
        return
    cache_scales.check(config)
    others = [dialect for dialect in dialects if dialect != CACHE_DIALECT]
    if others:
        raise UsageError(
            f"the dialect {others[0]} has no cache in {precision.cache}",
            remedy=f"write the dialect {CACHE_DIALECT} alone, or a cache without a type of its own",
        )
