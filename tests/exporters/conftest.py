"""The oracle's checkpoint exported once per precision."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from phiedge.calibration.int4 import RoundToNearest
from phiedge.exporters.checkpoint import Checkpoint
from phiedge.exporters.graphs import GraphFacts, write_graphs
from phiedge.exporters.precision import PLANS

MAX_CONTEXT = 640  # the longest case has 526 rows and 8 answers


@dataclass(frozen=True)
class Exported:
    """An export of the oracle checkpoint."""

    path: Path
    facts: GraphFacts


@pytest.fixture(scope="session")
def exported(oracle_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Exports the oracle checkpoint at a precision, the first time that it is asked for."""
    done: dict[str, Exported] = {}

    def export(precision: str) -> Exported:
        if precision not in done:
            path = tmp_path_factory.mktemp(precision)
            facts = write_graphs(
                oracle_checkpoint,
                precision=PLANS[precision],
                max_context=MAX_CONTEXT,
                out_dir=path,
                quantiser=RoundToNearest(),
            )
            done[precision] = Exported(path=path, facts=facts)
        return done[precision]

    return export
