"""From an open checkpoint to the graphs, weights and tables of a bundle.

    trace -> draft -> dialect passes -> names -> stream the weights -> save

Nothing here opens or closes the bundle, hashes files or judges accuracy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import onnx_ir as ir

from phiedge.bundle import Dialect, Table
from phiedge.errors import UsageError, nearest
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.dialects.ort import to_ort_decoder, to_ort_vision
from phiedge.exporters.draft import GraphDraft, check_consumed, draft_graph
from phiedge.exporters.node_names import name_nodes
from phiedge.exporters.precision import PrecisionPlan
from phiedge.exporters.quantised import QuantisedTensor, Quantiser
from phiedge.exporters.rotary import rotary_tables
from phiedge.exporters.tables import TableSource, tables_bytes, write_embeddings, write_positions
from phiedge.exporters.tensors import EMBEDDING_TABLE, POSITION_TABLE
from phiedge.exporters.trace import OPSET, trace_decoder, trace_vision
from phiedge.exporters.vision import checkpoint_name
from phiedge.exporters.weights import data_bytes, write_weights
from phiedge.progress import Progress, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class DialectPasses:
    """What a dialect does to the two graphs."""

    vision: Callable[[GraphDraft, PrecisionPlan], None]
    decoder: Callable[[GraphDraft, PrecisionPlan], None]


DIALECTS = {"ort": DialectPasses(vision=to_ort_vision, decoder=to_ort_decoder)}


class GraphSource(TableSource, Protocol):
    """The part of a checkpoint that an export reads."""

    @property
    def config(self) -> ModelConfig: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFacts:
    """What was written, as the manifest and the report need it; `files` are all files in the output directory."""

    dialect: str
    graphs: Dialect
    embed_tokens: Table
    positions: Table
    quantised: tuple[QuantisedTensor, ...]
    files: tuple[str, ...]


def write_graphs(
    checkpoint: GraphSource,
    *,
    precision: PrecisionPlan,
    dialect: str = "ort",
    max_context: int,
    out_dir: Path,
    quantiser: Quantiser,
    require_space: Callable[[int], None] | None = None,
    progress: Progress = silent,
) -> GraphFacts:
    """Write both graphs with their weights and the host's two tables into `out_dir`; same input, same bytes.

    `require_space` is called with the bytes that weights and tables take before any is written, and may refuse them.
    Raises `UsageError` for a dialect or context that does not exist, `ExportError` where the model does not fit the
    precision, `TensorError` for weights that are not finite.
    """
    config = checkpoint.config
    _check_request(config, dialect, max_context)
    with progress.task("trace", 2, "graphs") as advance:
        vision = draft_vision(config, precision)
        DIALECTS[dialect].vision(vision, precision)
        advance(1)
        decoder = draft_decoder(config, precision, max_context=max_context)
        DIALECTS[dialect].decoder(decoder, precision)
        advance(1)
    used = [name for name, spec in config.tensors().items() if spec.used]
    check_consumed([*vision.sources(), *decoder.sources(), EMBEDDING_TABLE, POSITION_TABLE], used)
    if require_space is not None:
        weights_bytes = sum(data_bytes(list(draft.fills.values())) for draft in (vision, decoder))
        require_space(weights_bytes + tables_bytes(checkpoint))

    embed_tokens = write_embeddings(checkpoint, out_dir, progress=progress)
    positions = write_positions(checkpoint, out_dir)
    files = [embed_tokens.file, positions.file]
    report: list[QuantisedTensor] = []
    for draft in (vision, decoder):
        name_nodes(draft.graph)
        path = out_dir / f"{draft.graph.name}.{dialect}.onnx"
        report += save_graph(draft, checkpoint, quantiser, path, progress=progress)
        files += [path.name, _data_path(path).name]
    return GraphFacts(
        dialect=dialect,
        graphs=Dialect(
            vision=f"vision.{dialect}.onnx", decoder=f"decoder.{dialect}.onnx", opset=OPSET, max_context=max_context
        ),
        embed_tokens=embed_tokens,
        positions=positions,
        quantised=tuple(report),
        files=tuple(files),
    )


def draft_vision(config: ModelConfig, precision: PrecisionPlan) -> GraphDraft:
    """Trace the vision graph in the activations' type and connect its weights to the checkpoint."""
    return draft_graph(trace_vision(config, precision.activations), checkpoint_name=checkpoint_name, computed={})


def draft_decoder(config: ModelConfig, precision: PrecisionPlan, *, max_context: int) -> GraphDraft:
    """Trace the decoder graph in the activations' type and connect its weights to the checkpoint."""
    cos, sin = rotary_tables(config.head_dim, config.rope_theta, max_context)
    return draft_graph(
        trace_decoder(config, precision.activations, max_context=max_context),
        checkpoint_name=lambda parameter: parameter,
        computed={"cos_cache": lambda: cos, "sin_cache": lambda: sin},
    )


def save_graph(
    draft: GraphDraft, source: GraphSource, quantiser: Quantiser, path: Path, *, progress: Progress = silent
) -> tuple[QuantisedTensor, ...]:
    """Write `path` with its weights beside it in `path`.data; return the rows of the quantisation report."""
    tensors, report = write_weights(list(draft.fills.values()), source, quantiser, _data_path(path), progress=progress)
    for name, tensor in tensors.items():
        draft.graph.initializers[name].const_value = tensor
    unfilled = [name for name, value in draft.graph.initializers.items() if value.const_value is None]
    assert not unfilled, f"weights without a fill: {unfilled}"
    ir.save(draft.model, path)
    return report


def _data_path(path: Path) -> Path:
    return path.with_name(path.name + ".data")


def _check_request(config: ModelConfig, dialect: str, max_context: int) -> None:
    if dialect not in DIALECTS:
        close = nearest(dialect, DIALECTS) or list(DIALECTS)
        raise UsageError(f"unknown dialect {dialect!r}", remedy=f"use {' or '.join(close)}")
    if not 1 <= max_context <= config.max_position_embeddings:
        raise UsageError(
            f"a context of {max_context} tokens: the model has positions for 1 to {config.max_position_embeddings}",
            remedy=f"--max-context {config.max_position_embeddings} or less",
        )
