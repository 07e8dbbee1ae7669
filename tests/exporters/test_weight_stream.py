"""The stream as a whole, over real checkpoint directories in shards."""

import errno
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fake_checkpoints import FakeDims, write_checkpoint
from phiedge.bundle import hash_file
from phiedge.bundle.reading import JOURNAL_NAME
from phiedge.calibration.int4 import RoundToNearest, quantise_rtn
from phiedge.errors import CheckpointError, TensorError
from phiedge.exporters import journal as journals
from phiedge.exporters import weight_stream
from phiedge.exporters.append_file import AppendFile
from phiedge.exporters.checkpoint import open_checkpoint
from phiedge.exporters.journal import Journal
from phiedge.exporters.weight_stream import Written, write_weights
from weight_fills import all_files

DIMS = FakeDims(num_hidden_layers=3)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("stream") / "checkpoint", DIMS, shards=3)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows, and a journal entry every few of them."""
    monkeypatch.setattr(weight_stream, "BLOCK_BYTES", 2000)
    monkeypatch.setattr(journals, "STEP_BYTES", 8000)


def run(checkpoint: Path, directory: Path, *, threads: int = 2, key: str | None = None, said: list | None = None):
    directory.mkdir(exist_ok=True)
    notice: Callable[[str], None] = (said if said is not None else []).append
    with open_checkpoint(checkpoint) as source:
        journal = None if key is None else Journal(directory, key, notice=notice)
        files = all_files(source)
        return write_weights(files, source, RoundToNearest(), directory, journal=journal, threads=threads)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != JOURNAL_NAME}


@pytest.fixture(scope="module")
def whole(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], Written]:
    directory = tmp_path_factory.mktemp("whole") / "out"
    written = run(shards, directory)
    return contents(directory), written


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("block_bytes", [1, 2000, 8 << 20])
def test_bytes_and_report_do_not_depend_on_threads_and_blocks(
    shards: Path, whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, block_bytes: int
) -> None:
    monkeypatch.setattr(weight_stream, "BLOCK_BYTES", block_bytes)
    assert run(shards, tmp_path / "out", threads=threads) == whole[1]
    assert contents(tmp_path / "out") == whole[0]


def test_every_slot_holds_its_tensor(shards: Path, tmp_path: Path) -> None:
    run(shards, tmp_path / "out")
    with open_checkpoint(shards) as source:
        for file in all_files(source):
            data = (tmp_path / "out" / file.name).read_bytes()
            assert len(data) == file.size_bytes
            for fill in file.fills:
                if fill.source is None:
                    continue
                values = source.float32(fill.source)
                parts = [data[file.offsets[slot.key] :][: slot.size_bytes] for slot in fill.slots]
                if len(parts) == 1:
                    assert parts[0] == values.tobytes()
                else:
                    quantised = quantise_rtn(values, 32)
                    assert parts == [quantised.packed.tobytes(), quantised.scales.tobytes()]


def test_the_report_has_the_error_of_what_was_stored(shards: Path, whole) -> None:
    rows = {row.name: row for row in whole[1].rows}
    name = "model.layers.1.mlp.gate_up_proj.weight"
    with open_checkpoint(shards) as source:
        values = source.float32(name)
    difference = quantise_rtn(values, 32).dequantise() - values
    assert rows[name].relative_l2 == pytest.approx(np.linalg.norm(difference) / np.linalg.norm(values), rel=1e-5)
    assert rows[name].max_abs_error == pytest.approx(np.abs(difference).max(), rel=1e-5)
    assert rows[name].stored_bytes == values.size // 2 + values.size // 32 * 4


def test_source_and_output_are_hashed_on_the_way(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with open_checkpoint(shards) as source:
        written = write_weights(all_files(source), source, RoundToNearest(), tmp_path / "out")
        digests = source.digests()
    assert {name: entry.sha256 for name, entry in digests.items()} == {
        path.name: hash_file(path) for path in shards.glob("*.safetensors")
    }
    assert {name: entry.sha256 for name, entry in written.entries.items()} == {
        path.name: hash_file(path) for path in (tmp_path / "out").iterdir()
    }


def test_a_second_pass_hashes_nothing_again(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_checkpoint(shards) as source:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            write_weights(all_files(source), source, RoundToNearest(), tmp_path / name)
            monkeypatch.setattr("phiedge.exporters.sequential._Reader.entry", None)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


@pytest.mark.parametrize("threads", [1, 3])
def test_a_weight_that_is_not_finite_is_named_in_whatever_thread_it_was_found(
    tmp_path: Path, small_steps: None, threads: int
) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    bad = np.zeros((64, 96), np.float32)
    bad[50, 7] = np.nan
    checkpoint = write_checkpoint(tmp_path / "checkpoint", DIMS, shards=2, replace={name: bad})
    with pytest.raises(TensorError, match=r"down_proj.weight\[50, 7\] is nan") as caught:
        run(checkpoint, tmp_path / "out", threads=threads)
    assert caught.value.tensor == name


def test_memory_does_not_grow_with_the_number_of_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_stream, "BLOCK_BYTES", 1 << 14)

    def peak_bytes(layers: int) -> int:
        dims = FakeDims(num_hidden_layers=layers, hidden_size=256, intermediate_size=512)
        checkpoint = write_checkpoint(tmp_path / f"{layers}", dims, shards=2)
        (tmp_path / f"out{layers}").mkdir()
        with open_checkpoint(checkpoint) as source:
            files = all_files(source)
            tracemalloc.start()
            try:
                write_weights(files, source, RoundToNearest(), tmp_path / f"out{layers}", threads=2)
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    assert peak_bytes(12) < peak_bytes(2) + 400_000, "ten layers have 10 MB of weights"


def test_progress_is_told_of_every_byte(shards: Path, tmp_path: Path) -> None:
    tasks: dict[str, list[int]] = {}

    class Recorder:
        def task(self, name: str, total: int, unit: str):
            assert unit == "B"
            tasks[name] = [total]
            self.current = tasks[name]
            return self

        def __enter__(self):
            return self.current.append

        def __exit__(self, *error: object) -> None:
            return None

    (tmp_path / "out").mkdir()
    with open_checkpoint(shards) as source:
        files = all_files(source)
        write_weights(files, source, RoundToNearest(), tmp_path / "out", progress=Recorder())
    total, *counts = tasks["write weights"]
    padding = total - sum(slot.size_bytes for file in files for fill in file.fills for slot in fill.slots)
    assert total - padding <= sum(counts) <= total == sum(file.size_bytes for file in files)


def test_a_shard_that_is_cut_short_meanwhile_is_an_error(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", DIMS, shards=2)
    (tmp_path / "out").mkdir()
    with open_checkpoint(checkpoint) as source:
        files = all_files(source)
        shard = sorted(checkpoint.glob("*.safetensors"))[1]
        shard.write_bytes(shard.read_bytes()[:-100])
        with pytest.raises(CheckpointError, match=r"was cut short while it was read: it ends at \d+ of \d+ bytes"):
            write_weights(files, source, RoundToNearest(), tmp_path / "out")


def test_a_shard_that_is_changed_meanwhile_is_an_error(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", DIMS, shards=2)
    (tmp_path / "out").mkdir()
    with open_checkpoint(checkpoint) as source:
        files = all_files(source)
        shard = sorted(checkpoint.glob("*.safetensors"))[0]
        with shard.open("r+b") as file:
            file.seek(-2, 2)
            file.write(b"\1\1")
        with pytest.raises(CheckpointError, match="was changed while it was read"):
            write_weights(files, source, RoundToNearest(), tmp_path / "out")


class _Stopped(Exception):
    pass


def stop_after(monkeypatch: pytest.MonkeyPatch, appends: int, error: Exception | None = None) -> None:
    """Let `append` fail after so many calls."""
    append, calls = AppendFile.append, 0

    def counted(self: AppendFile, part: np.ndarray) -> int:
        nonlocal calls
        calls += 1
        if calls > appends:
            raise error or _Stopped
        return append(self, part)

    monkeypatch.setattr(AppendFile, "append", counted)


@pytest.fixture
def half(shards: Path, tmp_path: Path, small_steps: None) -> Path:
    """What a stream under the key "k" leaves that was stopped in its middle."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(_Stopped):
        stop_after(patch, 150)
        run(shards, tmp_path / "out", key="k")
    entry = json.loads((tmp_path / "out" / JOURNAL_NAME).read_bytes())
    assert entry["done"] > 5
    return tmp_path / "out"


def test_a_stopped_stream_goes_on_and_gives_the_same_bytes(shards: Path, whole, half: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        quantised: list[str] = []
        original = RoundToNearest.quantise
        patch.setattr(
            RoundToNearest,
            "quantise",
            lambda self, weight, **options: quantised.append(weight.name) or original(self, weight, **options),
        )
        written = run(shards, half, key="k")
    assert contents(half) == whole[0]
    assert written == whole[1]
    assert set(quantised) < {row.name for row in whole[1].rows}, "what was finished is not done again"


@pytest.mark.parametrize("damage", ["flip", "cut", "missing"])
def test_a_damaged_file_lets_the_stream_start_anew(shards: Path, whole, half: Path, damage: str) -> None:
    file = max((half / "one.data", half / "two.data"), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[10] ^= 1
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(data if damage == "flip" else data[:100])
    said: list[str] = []
    assert run(shards, half, key="k", said=said) == whole[1]
    assert contents(half) == whole[0]
    assert said == [f"what an earlier export left in {half} was removed: what it holds is not what was written"]


@pytest.mark.parametrize("spoil", ["another key", "no JSON", "a stranger's"])
def test_a_journal_that_is_not_ours_is_not_followed(shards: Path, whole, half: Path, spoil: str) -> None:
    if spoil != "another key":
        (half / JOURNAL_NAME).write_text("{" if spoil == "no JSON" else '{"key": "k"}')
    (half / "stranger").write_text("x")
    said: list[str] = []
    run(shards, half, key="other" if spoil == "another key" else "k", said=said)
    assert contents(half) == whole[0]
    assert said == [f"what an earlier export left in {half} was removed: it is of other weights, options or versions"]


def test_a_stream_that_is_short_leaves_no_journal(shards: Path, tmp_path: Path) -> None:
    run(shards, tmp_path / "out", key="k")
    assert not (tmp_path / "out" / JOURNAL_NAME).exists()


def test_a_disk_that_fills_up_leaves_what_the_journal_speaks_of(
    shards: Path, whole, tmp_path: Path, small_steps: None
) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="No space left") as caught:
        stop_after(patch, 150, OSError(errno.ENOSPC, "No space left on device"))
        run(shards, tmp_path / "out", key="k")
    assert caught.value.errno == errno.ENOSPC
    run(shards, tmp_path / "out", key="k")
    assert contents(tmp_path / "out") == whole[0]


# Forks one child after the other that streams into the same directory, and kills each at a random moment of what a
# whole stream takes, until so many were killed. Whenever one gets through, its files are compared and removed.
KILLING = """
import os, random, shutil, signal, sys, time
from pathlib import Path
from phiedge.bundle.reading import JOURNAL_NAME
from phiedge.calibration.int4 import RoundToNearest
from phiedge.exporters import journal, weight_stream
from phiedge.exporters.checkpoint import open_checkpoint
from phiedge.exporters.journal import Journal
from phiedge.exporters.weight_stream import write_weights
from weight_fills import all_files

checkpoint, wanted, directory, kills = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
weight_stream.BLOCK_BYTES, journal.STEP_BYTES = 1000, 4000
random.seed(7)

def stream():
    directory.mkdir(exist_ok=True)
    with open_checkpoint(checkpoint) as source:
        kept = Journal(directory, "k", notice=lambda said: os._exit(9))
        write_weights(all_files(source), source, RoundToNearest(), directory, journal=kept, threads=2)

def child():
    pid = os.fork()
    if pid == 0:
        try:
            stream()
            os._exit(0)
        except BaseException:
            os._exit(8)
    return pid

begun = time.perf_counter()
assert os.waitpid(child(), 0)[1] == 0
whole_s = time.perf_counter() - begun
shutil.rmtree(directory)
killed = resumed = finished = 0
while killed < kills:
    resumed += (directory / JOURNAL_NAME).exists()
    pid = child()
    time.sleep(random.uniform(0, whole_s))
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        killed += 1
        continue
    assert os.WEXITSTATUS(status) == 0, status
    finished += 1
    for file in wanted.iterdir():
        assert (directory / file.name).read_bytes() == file.read_bytes(), file.name
    shutil.rmtree(directory)
assert os.waitpid(child(), 0)[1] == 0
for file in wanted.iterdir():
    assert (directory / file.name).read_bytes() == file.read_bytes(), file.name
print(killed, resumed, finished)
"""


def test_killed_at_twenty_random_moments_it_goes_on_and_gives_the_same_bytes(shards: Path, tmp_path: Path) -> None:
    run(shards, tmp_path / "wanted")
    support = Path(__file__).parents[1] / "support"
    command = [sys.executable, "-c", KILLING, shards, tmp_path / "wanted", tmp_path / "out", "20"]
    finished = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, env={"PYTHONPATH": f"{support}:{Path.cwd()}"}
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    killed, resumed, _ = map(int, finished.stdout.split())
    assert killed == 20
    assert resumed > 3, "most of them found a journal to go on from"
