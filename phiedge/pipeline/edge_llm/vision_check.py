"""Our packed vision graph on the reference evaluator, held against the bundle's own vision graph on ONNX Runtime.

Five grids go through it: large and small, flat and tall, several in one call, under both ways to place the taps. A
distance counts in units of the largest feature; float16 costs up to a thousandth of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiedge.bundle import Bundle
from phiedge.engines.onnxruntime.opening import ort_dialect
from phiedge.engines.onnxruntime.vision import OrtVision
from phiedge.engines.threads import default_threads
from phiedge.errors import ToolOutputError
from phiedge.exporters.packed_vision import contract
from phiedge.pipeline.edge_llm.piecewise import run_graph
from phiedge.pipeline.edge_llm.taps import Placement, sample_taps
from phiedge.progress import Progress, silent
from phiedge.runtime.embeddings import read_positions
from phiedge.runtime.positions import PositionTable
from phiedge.runtime.preprocess import CHANNELS, Grid

Float = NDArray[Any]
TOLERANCE = 1e-3
GRIDS = (
    Grid(rows=16, columns=16),
    Grid(rows=5, columns=7),
    Grid(rows=3, columns=20),
    Grid(rows=18, columns=2),
    Grid(rows=1, columns=9),
)
# Which of them go in one call, and how its runtime places the taps.
_CALLS: tuple[tuple[Placement, tuple[int, ...]], ...] = (("centres", (0, 1, 2)), ("corners", (3, 4, 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionDistance:
    """How far a picture's features are from our own, of the largest feature."""

    grid: Grid
    placement: Placement
    distance: float


def packed_inputs(
    patches: Sequence[Float], grids: Sequence[Grid], *, side: int, patch_size: int, placement: Placement
) -> dict[str, Float]:
    """What the runtime gives the graph for pictures whose `patches` have the channel fastest, as ours have."""
    indices, weights = sample_taps(grids, side=side, placement=placement)
    lengths = [grid.tokens for grid in grids]
    rows = [
        part.reshape(-1, patch_size, patch_size, CHANNELS).transpose(0, 3, 1, 2).reshape(len(part), -1)
        for part in patches
    ]
    return {
        contract.PATCHES: np.concatenate(rows).astype(np.float16),
        contract.BOUNDS: np.cumsum([0, *lengths]).astype(np.int32),
        contract.TAP_INDICES: indices,
        contract.TAP_WEIGHTS: weights,
        contract.LONGEST: np.zeros(max(lengths), dtype=np.int32),
    }


def encode_packed(graph: Path, inputs: Mapping[str, Float], progress: Progress = silent) -> Float:
    """The features of all pictures, [patches, hidden] float16."""
    return run_graph(graph, inputs, [contract.FEATURES], progress)[contract.FEATURES]


def check_vision(bundle: Bundle, graph: Path, progress: Progress = silent) -> list[VisionDistance]:
    """Hold the packed graph at `graph` against the bundle's own. Raises `ToolOutputError` where it is too far."""
    facts = bundle.manifest.facts
    ours = OrtVision(bundle.file(ort_dialect(bundle).vision), facts, threads=default_threads())
    table = PositionTable(read_positions(bundle), side=facts.position_grid, dtype=ours.input_dtype)
    random = np.random.default_rng(0)
    rows = []
    for placement, chosen in _CALLS:
        grids = [GRIDS[number] for number in chosen]
        shapes = [(grid.tokens, CHANNELS * facts.patch_size**2) for grid in grids]
        patches = [random.uniform(-1, 1, shape).astype(np.float16).astype(ours.input_dtype) for shape in shapes]
        inputs = packed_inputs(
            patches, grids, side=facts.position_grid, patch_size=facts.patch_size, placement=placement
        )
        packed = np.split(encode_packed(graph, inputs, progress), inputs[contract.BOUNDS][1:-1])
        for grid, part, features in zip(grids, patches, packed, strict=True):
            wanted = np.empty((grid.tokens, facts.hidden_size), dtype=ours.output_dtype)
            ours.encode(part, np.array(table.embed(grid)), wanted)
            rows.append(VisionDistance(grid=grid, placement=placement, distance=_distance(features, wanted)))
    _require_near(graph, rows)
    return rows


def _distance(found: Float, wanted: Float) -> float:
    apart = np.abs(found.astype(np.float32) - wanted.astype(np.float32)).max()
    return float(apart / np.abs(wanted.astype(np.float32)).max())


def _require_near(graph: Path, rows: Sequence[VisionDistance]) -> None:
    for row in rows:
        if not row.distance <= TOLERANCE:
            raise ToolOutputError(
                f"{graph}: features of {row.grid.rows} x {row.grid.columns} patches are {row.distance:.2g} of the "
                f"largest from the bundle's own, {TOLERANCE:g} are allowed",
                remedy="report this, with the bundle's quantization.json",
            )
