"""When a model is not compared with fp32."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from phiedge.bundle import Bundle
from phiedge.exporters.checkpoint import open_checkpoint
from phiedge.exporters.graphs import GraphFacts
from phiedge.exporters.precision import choose_precision
from phiedge.pipeline import report
from phiedge.pipeline.report import begin_report, compare, is_tried
from phiedge.runtime.session import Session


@pytest.fixture
def told(tiny_checkpoint: Path, tiny_bundle: Bundle) -> Any:
    """Makes the report on the tiny bundle, for a device of compute capability `sm`."""

    def make(sm: int | None = None) -> dict[str, Any]:
        manifest = tiny_bundle.manifest
        written = GraphFacts(
            dialects=manifest.dialects,
            embed_tokens=manifest.embed_tokens,
            positions=manifest.positions,
            quantised=(),
            files=(),
            entries={},
        )
        with open_checkpoint(tiny_checkpoint) as checkpoint, Session.open(tiny_bundle, max_context=64) as session:
            choice = choose_precision("auto", sm=sm)
            made = begin_report(checkpoint, choice, written)
            compare(made, checkpoint, choice, session, [])
            return made

    return make


def test_a_large_model_is_not_copied(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "COMPARED_PARAMETERS", 1000)
    made = told()
    assert made["end_to_end"] is None
    assert made["notes"] == ["not compared with fp32: 0.0 billion parameters would take 0 GB"]


def test_a_copy_that_would_fill_the_disk_is_not_made(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=30_000_000))
    assert told()["notes"] == [
        "not compared with fp32: the copy takes 1 MB and leaves less than 64 MB of the 30 MB that are free"
    ]


def test_the_note_of_the_precision_comes_first(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "COMPARED_PARAMETERS", 1000)
    first, second = told(sm=89)["notes"]
    assert first.startswith("using int4; this GPU has units for fp8, too")
    assert second.startswith("not compared with fp32")


def test_a_model_of_more_than_a_billion_parameters_is_not_run_at_export(
    told: Any, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_checkpoint(tiny_checkpoint) as checkpoint:
        assert is_tried(checkpoint)
        monkeypatch.setattr(report, "TRIED_PARAMETERS", 1000)
        assert not is_tried(checkpoint)
    monkeypatch.setattr(report, "COMPARED_PARAMETERS", 1000)
    assert told()["notes"][0].startswith("not run at export: 0.0 billion parameters; `phiedge build BUNDLE`")
