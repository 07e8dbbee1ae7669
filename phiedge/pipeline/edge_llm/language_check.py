"""The exporter's graph of the decoder on the reference evaluator, held against our own decoder's logits.

Our own are the goldens of the bundle, which has none where the model was too large to be asked at export; then our
decoder is asked now. Both compute from the same codes: what is between them is float16.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiedge.bundle import Bundle, ModelFacts
from phiedge.engines.edge_llm.versions import PAGE_TOKENS
from phiedge.errors import ToolOutputError
from phiedge.exporters.rotary import rotary_tables
from phiedge.pipeline.edge_llm.piecewise import run_graph
from phiedge.pipeline.edge_llm.request_rows import request_rows
from phiedge.pipeline.golden_questions import golden_questions
from phiedge.progress import Progress, silent
from phiedge.runtime import goldens
from phiedge.runtime.goldens import Golden, GoldenQuestion
from phiedge.runtime.session import Session

LEAST_COSINE = 0.99999
_ASKED_CONTEXT = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitsDistance:
    """A question, the least cosine between the two's logits before each token said, and the largest difference."""

    question: str
    pictures: int
    cosine: float
    largest: float


def our_logits(bundle: Bundle) -> list[Golden]:
    """What our own decoder answered: the bundle's goldens, or one text question asked now.

    Raises `DeviceError` where there is too little memory to ask.
    """
    found = goldens.load(bundle)
    if found:
        return found
    question = golden_questions()[0]
    context = min(_ASKED_CONTEXT, bundle.manifest.max_context)
    with Session.open(bundle, max_context=context, backend="onnxruntime") as session:
        said = session.generate(question.prompt, think=question.think, max_new_tokens=2).token_ids
        logits = session.forced_logits(question.prompt, said[:-1], think=question.think)
    return [Golden(question=question, token_ids=said, logits=logits)]


def check_language(
    bundle: Bundle, graph: Path, visual: Path, wanted: Sequence[Golden], progress: Progress = silent
) -> list[LogitsDistance]:
    """Hold the graph against `wanted`. Raises `ToolOutputError` where logits point elsewhere."""
    rows = []
    for golden in wanted:
        found = graph_logits(bundle, graph, visual, golden.question, golden.token_ids, progress)
        rows.append(_compare(golden, found))
        _require_near(graph, rows[-1])
    return rows


def graph_logits(
    bundle: Bundle,
    graph: Path,
    visual: Path,
    question: GoldenQuestion,
    said: Sequence[int],
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """The logits before each of the tokens `said`, [tokens, vocab]."""
    rows, asked = request_rows(bundle, visual, question, said[:-1])
    inputs = prefill_inputs(rows, bundle.manifest.facts, last_rows=range(asked - 1, len(rows)))
    logits: NDArray[np.float32] = run_graph(graph, inputs, ["logits"], progress)["logits"]
    return logits


def prefill_inputs(
    rows: NDArray[np.float16], facts: ModelFacts, *, last_rows: Sequence[int], layers: int | None = None
) -> dict[str, NDArray[Any]]:
    """The inputs of one sequence of `rows` [t, hidden] before an empty cache."""
    count = len(rows)
    cosine, sine = rotary_tables(facts.head_dim, facts.rope_theta, count)
    pages = -(-count // PAGE_TOKENS)
    cache = np.zeros((2, 1, PAGE_TOKENS, facts.num_kv_heads, facts.head_dim), dtype=np.float16)
    marker = np.zeros(1, dtype=np.int32)
    inputs: dict[str, NDArray[Any]] = {
        "inputs_embeds": rows,
        "rope_rotary_cos_sin": np.concatenate([cosine, sine], axis=1).astype(np.float32),
        "positions": np.arange(count, dtype=np.int32),
        "query_start_offsets": np.array([0, count], dtype=np.int32),
        "query_lengths": np.array([count], dtype=np.int32),
        "past_lengths": np.zeros(1, dtype=np.int32),
        "attention_sequence_lengths": np.array([count], dtype=np.int32),
        "state_indices": np.zeros(1, dtype=np.int32),
        "execution_phase_marker": marker,
        "context_sequence_count_carrier": marker,
        "kv_page_table": np.zeros((1, 2, pages), dtype=np.int32),
        "logits_indices": np.array(list(last_rows), dtype=np.int64),
    }
    return inputs | {f"past_key_values_{layer}": cache for layer in range(layers or facts.num_layers)}


def _compare(golden: Golden, found: NDArray[np.float32]) -> LogitsDistance:
    wanted = golden.logits
    products = (found * wanted).sum(axis=1, dtype=np.float64)
    lengths = np.linalg.norm(found.astype(np.float64), axis=1) * np.linalg.norm(wanted.astype(np.float64), axis=1)
    return LogitsDistance(
        question=golden.question.name,
        pictures=len(golden.question.pictures),
        cosine=float((products / lengths).min()),
        largest=float(np.abs(found - wanted).max()),
    )


def _require_near(graph: Path, row: LogitsDistance) -> None:
    if not row.cosine >= LEAST_COSINE:
        raise ToolOutputError(
            f"{graph}: the logits of {row.question!r} have a cosine of {row.cosine:.6f} with our own decoder's, "
            f"{LEAST_COSINE:g} is the least allowed",
            remedy="its weights or operators are not the model's: do not use it, and report this",
        )
