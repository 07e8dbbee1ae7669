"""`phiedge build --backend tensorrt-rtx`, through the command line, on the reference model: no GPU takes part."""

import json
import os
import select
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from command_lines import assert_refused, stopped_at, tell
from phiedge.bundle import Bundle
from phiedge.devices import memory_limits
from phiedge.engines import engine_writer
from phiedge.engines.engine_record import built_engines
from phiedge.engines.tensorrt.build_log import BuildLog
from phiedge.pipeline import build

RTX = ("--backend", "tensorrt-rtx")
BUILDING = "phiedge.engines.tensorrt.worker_process:read_event"


@pytest.fixture
def bundle(exported_bundle: Path, tmp_path: Path) -> Path:
    """The reference model's bundle for Jetson Orin, which has graphs for TensorRT."""
    shutil.copytree(exported_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture(scope="module")
def built_bundle(exported_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an engine for SM 86; do not write into it."""
    path = tmp_path_factory.mktemp("built") / "bundle"
    shutil.copytree(exported_bundle, path)
    build(path, backend="tensorrt-rtx", sms=[86])
    return path


def test_engines_are_built_for_three_gpus_in_two_families(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tell(capsys, "build", bundle, *RTX, "--sm", "86,89,120", "--json").json
    assert [Path(engine["engine"]).name for engine in told["engines"]] == [
        "tensorrt-rtx-sm86",
        "tensorrt-rtx-sm89+sm120",
    ]
    facts = Bundle.open(bundle).manifest.facts
    for engine in built_engines(Bundle.open(bundle)):
        assert engine.record.tools.keys() == {"tensorrt-rtx"}
        assert engine.record.options["chunk_tokens"] == "256"
        decoder = BuildLog.from_json(engine.file("decoder.layers.json").read_text())
        vision = BuildLog.from_json(engine.file("vision.layers.json").read_text())
        assert [len(profile.attentions) for profile in decoder.profiles] == 2 * [facts.num_layers]
        assert [len(profile.attentions) for profile in vision.profiles] == [facts.vision_layers_used]
        assert [profile.int4_products for profile in decoder.profiles] == 2 * [4 * facts.num_layers + 1]
        assert decoder.weights_bytes <= (bundle / "decoder.data").stat().st_size, "once for both profiles"
    verified = tell(capsys, "verify", bundle, "--json").json
    assert verified["ok"], verified
    assert verified["engines"] == ["tensorrt-rtx-sm86", "tensorrt-rtx-sm89+sm120"]


def test_a_person_is_told_what_it_is_for_and_what_it_needs(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tell(capsys, "build", bundle, *RTX, "--sm", "89")
    assert told.code == 0, told.err
    assert "compute capabilities" in told.out
    assert "89 120" in told.out
    assert "4 fused attentions" in told.out
    assert told.out.endswith(f"written to {bundle / 'engines' / 'tensorrt-rtx-sm89+sm120'}\n")


def test_a_damaged_engine_is_not_verified(
    built_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(built_bundle, bundle)
    path = bundle / "engines" / "tensorrt-rtx-sm86" / "decoder.engine"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    told = tell(capsys, "verify", bundle, "--json")
    assert told.code == 1
    assert [problem["path"] for problem in told.json["problems"]] == ["engines/tensorrt-rtx-sm86/decoder.engine"]


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        ((), "the bundle is for agx-orin-64, which TensorRT-RTX does not build for", 2),
        (("--sm", "87"), "does not build for SM 87", 2),
        (("--sm", "75"), "which TensorRT-RTX does not build for SM 75", 2),
        (("--sm", "8.6"), "'8.6' is no list of compute capabilities", 2),
        (("--sm", "86", "--threads", "0"), "threads must be from 1", 2),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is_written(
    exported_bundle: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str, code: int
) -> None:
    assert message in assert_refused(capsys, "build", exported_bundle, *RTX, *words, code=code)
    assert not (exported_bundle / "engines").exists()


def test_gpus_are_not_for_the_other_backend(exported_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "builds for a processor" in assert_refused(capsys, "build", exported_bundle, "--sm", "86", code=2)


def test_a_machine_without_the_memory_is_told_so_before_the_start(
    exported_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_limits, "available_memory_bytes", lambda **_: 100_000_000)
    message = assert_refused(capsys, "build", exported_bundle, *RTX, "--sm", "86")
    assert "of memory, the machine leaves 100 MB" in message
    assert not (exported_bundle / "engines").exists()


def test_a_disk_without_the_room_is_told_so_before_the_start(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(bundle)._replace(free=1000)
    monkeypatch.setattr(engine_writer.shutil, "disk_usage", lambda path: full)
    message = assert_refused(capsys, "build", bundle, *RTX, "--sm", "86")
    assert "has 0.0 GB free" in message
    assert list((bundle / "engines").iterdir()) == []


def test_a_damaged_bundle_is_not_built_from(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bundle / "vision.data"
    damaged = bytearray(data.read_bytes())
    damaged[100] ^= 1
    data.write_bytes(damaged)
    assert "vision.data is changed" in assert_refused(capsys, "build", bundle, *RTX, "--sm", "86")
    assert list((bundle / "engines").iterdir()) == []


def worker_of(process: "subprocess.Popen[str]") -> int:
    """The process that builds for another one, as a descriptor that tells when it has ended."""
    (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return os.pidfd_open(int(worker))


def test_a_killed_build_leaves_nothing_that_opens_and_the_next_one_cleans_up(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stopped_at(BUILDING, "build", bundle, *RTX, "--sm", "86") as process:
        worker = worker_of(process)
        process.kill()
        process.communicate()
    select.select([worker], [], [])
    os.close(worker)
    (left,) = (bundle / "engines").iterdir()
    assert left.name == ".tensorrt-rtx-sm86.partial"
    assert built_engines(Bundle.open(bundle)) == []
    assert tell(capsys, "verify", bundle, "--json").json["engines"] == []

    (left / "stranger").write_text("x")
    assert tell(capsys, "build", bundle, *RTX, "--sm", "86").code == 0
    (engine,) = built_engines(Bundle.open(bundle))
    assert "stranger" not in {path.name for path in engine.path.iterdir()}
    assert [path.name for path in (bundle / "engines").iterdir()] == [engine.name]


def test_ctrl_c_ends_a_build_at_once(bundle: Path) -> None:
    with stopped_at(BUILDING, "build", bundle, *RTX, "--sm", "86") as process:
        worker = worker_of(process)
        process.send_signal(signal.SIGINT)
        assert process.communicate() == ("", "error: interrupted\n")
        assert process.returncode == 130
    assert select.select([worker], [], [], 0)[0], "the process that built has ended"
    os.close(worker)
    assert list((bundle / "engines").iterdir()) == []


def test_of_two_builds_at_once_the_second_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stopped_at(BUILDING, "build", bundle, *RTX, "--sm", "86", "--json") as process:
        message = assert_refused(capsys, "build", bundle, *RTX, "--sm", "86")
        assert "tensorrt-rtx-sm86 is being built by another process" in message
        assert process.stdin is not None
        out, err = process.communicate("")
        assert process.returncode == 0, err
        assert len(json.loads(out)["engines"]) == 1
    assert len(built_engines(Bundle.open(bundle))) == 1
