"""Every way in which the exporter was seen to fail, by a stand-in that fails so."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_exporter import StandIn
from phiedge.engines.edge_llm.run import run_exporter
from phiedge.engines.edge_llm.tool import probe
from phiedge.errors import ToolError, ToolOutputError

MakeStandIn = Callable[..., StandIn]


def run(stand_in: StandIn, checkpoint: Path, out: Path) -> None:
    said = run_exporter(probe(stand_in.python), checkpoint, out)
    said.check(tensors=95)


def test_a_whole_export_passes_and_saw_no_gpu(stand_in: MakeStandIn, awq_checkpoint: Path, tmp_path: Path) -> None:
    made = stand_in()
    run(made, awq_checkpoint, tmp_path / "out")
    assert (tmp_path / "out" / "llm" / "model.onnx.data").stat().st_size > 1_000_000
    assert (made.scripts / "started").read_text().endswith(" ''")


def test_relative_paths_mean_what_they_mean_to_the_caller(
    stand_in: MakeStandIn, awq_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint").symlink_to(awq_checkpoint)
    run(stand_in(), Path("checkpoint"), Path("out"))
    assert (tmp_path / "out" / "llm" / "model.onnx").is_file()


@pytest.mark.parametrize(
    ("behaviour", "kind", "told"),
    [
        ("is killed", ToolError, "was ended by SIGKILL"),
        ("fails", ToolError, "ended with code 1: it said: IndexError: list index out of range"),
        ("fills the disk", ToolError, "found no space left on the disk"),
        ("writes nothing", ToolOutputError, "reported success and wrote no llm/model.onnx"),
        ("skips", ToolOutputError, "of 95 tensors it loaded 7 and skipped 42"),
        ("leaves out", ToolOutputError, "left weights out: qkv_proj.qweight shape .* (and 11 more)"),
    ],
)
def test_a_failure_is_named_and_has_a_remedy(
    behaviour: str,
    kind: type[ToolError],
    told: str,
    stand_in: MakeStandIn,
    awq_checkpoint: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(ToolError) as caught:
        run(stand_in(behaviour), awq_checkpoint, tmp_path / "out")
    assert type(caught.value) is kind
    assert caught.match(told.replace("(", "\\(").replace(")", "\\)"))
    assert caught.value.remedy


class Interrupting:
    """Ctrl-C, as soon as there is progress."""

    @contextmanager
    def task(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        def interrupt(count: int) -> None:
            raise KeyboardInterrupt

        yield interrupt


def test_an_interrupt_ends_the_process_as_well(stand_in: MakeStandIn, awq_checkpoint: Path, tmp_path: Path) -> None:
    made = stand_in("hangs")
    with pytest.raises(KeyboardInterrupt):
        run_exporter(probe(made.python), awq_checkpoint, tmp_path / "out", progress=Interrupting())
    with pytest.raises(ProcessLookupError):
        os.kill(made.process, 0)
