"""The oracle's numbers, and its checkpoint exported once per precision."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phiedge.calibration.int4 import RoundToNearest
from phiedge.exporters.checkpoint import Checkpoint, open_checkpoint
from phiedge.exporters.graphs import GraphFacts, write_graphs
from phiedge.exporters.precision import PLANS

ORACLE = Path(__file__).parents[1] / "oracle" / "tiny"
MAX_CONTEXT = 640  # the longest case has 526 rows and 8 answers


@dataclass(frozen=True)
class Exported:
    """An export of the oracle checkpoint."""

    path: Path
    facts: GraphFacts


@pytest.fixture(scope="session")
def oracle_arrays() -> Iterator[Any]:
    with np.load(ORACLE / "oracle.npz") as arrays:
        yield arrays


@pytest.fixture(scope="session")
def oracle_cases() -> dict[str, dict[str, Any]]:
    """What the publisher's code answered, by case."""
    return json.loads((ORACLE / "oracle_meta.json").read_text())["cases"]


@pytest.fixture(scope="session")
def oracle_checkpoint() -> Iterator[Checkpoint]:
    with open_checkpoint(str(ORACLE)) as checkpoint:
        yield checkpoint


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
