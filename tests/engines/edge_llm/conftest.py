"""The reference model as an AWQ checkpoint, and a stand-in for Edge-LLM's exporter."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_exporter import StandIn, make_stand_in
from phiedge.bundle import Bundle
from phiedge.exporters.checkpoints import write_checkpoint


@pytest.fixture(scope="session")
def awq_checkpoint(exported_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference model as phiedge writes it for the exporter; read it, do not write into it."""
    return write_checkpoint(Bundle.open(exported_bundle), "awq", tmp_path_factory.mktemp("awq") / "checkpoint")


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[..., StandIn]:
    """Makes an environment whose exporter behaves as it is told."""

    def make(behaviour: str = "works", *, version: str | None = "0.11.0") -> StandIn:
        return make_stand_in(tmp_path / "environment", version=version, behaviour=behaviour)

    return make
