"""The process that builds an engine: what it answers, how it ends, and that it never outlives who asked."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from phiedge.bundle import Bundle
from phiedge.engines.tensorrt import building, worker_process
from phiedge.engines.tensorrt.build_log import BuildLog
from phiedge.engines.tensorrt.library import load_library
from phiedge.engines.tensorrt.request import BuildRequest
from phiedge.engines.tensorrt.worker_process import build_in_process
from phiedge.errors import BundleError, DeviceError, MissingExtraError, SessionError


@pytest.fixture
def vision(gpu_bundle: Bundle, tmp_path: Path) -> BuildRequest:
    """A small engine to build."""
    asked, _ = building.requests(gpu_bundle, load_library("tensorrt-rtx"), (89, 120), tmp_path, threads=None)
    return asked


class Watched:
    """A progress that writes down how far tasks came."""

    def __init__(self) -> None:
        self.tasks: dict[str, int] = {}

    @contextmanager
    def task(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        self.tasks[f"{name} {total} {unit}"] = 0

        def advance(count: int) -> None:
            assert count >= 0
            self.tasks[f"{name} {total} {unit}"] += count

        yield advance


def test_an_engine_is_written_with_what_was_told_of_its_layers(vision: BuildRequest) -> None:
    progress = Watched()
    answer = build_in_process(vision, progress)
    assert answer.version == load_library("tensorrt-rtx").version
    assert Path(vision.engine).stat().st_size == answer.engine_bytes
    log = BuildLog.from_json(Path(vision.layers).read_text(encoding="utf-8"))
    assert [len(profile.attentions) for profile in log.profiles] == [vision.attentions]
    assert progress.tasks == {"build vision 100 %": 100}


def test_what_lies_in_the_working_directory_is_not_imported(
    vision: BuildRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "tensorrt_rtx", "phiedge"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('a stranger')")
    monkeypatch.chdir(tmp_path)
    build_in_process(vision)


def test_the_same_engine_is_built_twice(vision: BuildRequest) -> None:
    build_in_process(vision)
    first = Path(vision.engine).read_bytes()
    build_in_process(vision)
    assert Path(vision.engine).read_bytes() == first


def test_what_tensorrt_does_not_read_is_refused_with_its_words(vision: BuildRequest, tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"\xff" * 64)
    with pytest.raises(BundleError, match=r"TensorRT-RTX \S+ does not read graph\.onnx: \S"):
        build_in_process(replace(vision, graph=str(tmp_path / "graph.onnx")))
    assert not Path(vision.engine).exists()


def test_a_graph_that_is_not_as_it_must_be_is_refused_before_it_is_built(vision: BuildRequest) -> None:
    with pytest.raises(BundleError, match="TensorRT found 2 attentions in the vision graph, it has 5"):
        build_in_process(replace(vision, attentions=5))


def test_an_engine_that_cannot_be_written_is_an_error_of_the_disk(vision: BuildRequest, tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "nowhere" / "vision.engine")
    with pytest.raises(BundleError, match="the vision engine could not be written: .*nowhere") as caught:
        build_in_process(replace(vision, engine=elsewhere))
    assert "the disk" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("program", "error", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", DeviceError, "was ended by SIGKILL"),
        ("raise ValueError('a defect')", SessionError, "ended with code 1: ValueError: a defect"),
        ("", SessionError, "ended with code 0: it said nothing"),
        (
            """print('{"event": "error", "value": {"type": "DeviceError", "message": "m", "remedy": "r"}}')""",
            DeviceError,
            "m",
        ),
        (
            """print('{"event": "error", "value": {"type": "MissingExtraError", "message": "m", "remedy": "r"}}')""",
            BundleError,
            "m",
        ),
    ],
)
def test_a_process_without_an_engine_is_an_error_with_a_remedy(
    vision: BuildRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    error: type[Exception],
    message: str,
) -> None:
    (tmp_path / "stand_in_worker.py").write_text(program)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(worker_process, "WORKER", "stand_in_worker")
    with pytest.raises(error, match=message) as caught:
        build_in_process(vision)
    assert caught.value.remedy


def test_a_library_that_is_not_there_is_named(vision: BuildRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingExtraError, match="--backend tensorrt-rtx needs the 'rtx' extra"):
        load_library("tensorrt-rtx")


# A process that starts another one as a worker is started, and says its number when it waits.
PARENT = """
import os, subprocess, sys
child = "from phiedge.engines.tensorrt import worker; import os, signal, sys; worker._end_with(int(sys.argv[1])); "
child += "print(os.getpid(), flush=True); signal.pause()"
process = subprocess.Popen([sys.executable, "-c", child, str(os.getpid())])
process.wait()
"""


def test_a_worker_ends_with_the_process_that_asked_even_if_that_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = os.pidfd_open(int(parent.stdout.readline()))
        try:
            assert select.select([worker], [], [], 0)[0] == [], "it waits"
            parent.send_signal(signal.SIGKILL)
            select.select([worker], [], [])
        finally:
            parent.kill()
            os.close(worker)


def test_a_worker_whose_parent_has_already_ended_does_not_begin() -> None:
    command = [sys.executable, "-m", worker_process.WORKER, str(os.getpid() + 1)]
    finished = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert finished.returncode == 1
    assert re.search("has ended", finished.stderr)
