"""Exports that are killed, interrupted or run out of disk after their first journal entry, and are asked for again."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phiedge.bundle import Bundle
from phiedge.bundle.reading import JOURNAL_NAME

PARTIAL = ".bundle.partial-export"

# The command line with a journal entry every few kilobytes; it says "ready" and waits at the `count`th append.
SMALL_STEPS = """
import sys
from phiedge.cli import main
from phiedge.exporters import journal, weight_stream
from phiedge.exporters.append_file import AppendFile

journal.STEP_BYTES, weight_stream.BLOCK_BYTES = 20_000, 4_000
count, *words = sys.argv[1:]
append, calls = AppendFile.append, 0

def stopping(self, part):
    global calls
    calls += 1
    if calls == int(count):
        print("ready", flush=True)
        sys.stdin.read()
    return append(self, part)

AppendFile.append = stopping
sys.exit(main(words))
"""


@contextmanager
def stopped(count: int, *words: object) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", SMALL_STEPS, str(count), *map(str, words)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line == "ready\n", line + process.communicate()[1]
            yield process
        finally:
            process.kill()


def assert_same(bundle: Path, wanted: Bundle) -> None:
    names = sorted(path.name for path in bundle.iterdir())
    assert names == sorted(path.name for path in wanted.path.iterdir())
    assert [name for name in names if (bundle / name).read_bytes() != (wanted.path / name).read_bytes()] == []


def test_killed_and_interrupted_it_goes_on_to_the_same_bundle(
    tiny_checkpoint: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    words = ("export", "-t", "cpu", "-m", tiny_checkpoint, "-o", tmp_path / "bundle")
    with stopped(100, *words) as process:
        # A second one is refused while the first lives, and harms nothing.
        again = subprocess.run([sys.executable, "-m", "phiedge", *map(str, words)], capture_output=True, text=True)
        assert again.returncode == 1
        assert again.stderr.startswith(
            f"error: another process is writing {tmp_path / 'bundle'} at this moment\nremedy: "
        )
        process.kill()
        process.communicate()
    first = json.loads((tmp_path / PARTIAL / JOURNAL_NAME).read_bytes())["done"]
    assert first > 5

    with stopped(60, *words) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
        assert process.returncode == 130
    kept = tmp_path / PARTIAL
    assert said == f"error: interrupted\nremedy: the same command goes on from there; or remove {kept}\n"
    assert json.loads((kept / JOURNAL_NAME).read_bytes())["done"] > first, "it had gone on"

    subprocess.run([sys.executable, "-m", "phiedge", *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert_same(tmp_path / "bundle", tiny_bundle)


def test_another_precision_does_not_go_on_from_it(tiny_checkpoint: Path, tmp_path: Path) -> None:
    words = ("export", "-t", "cpu", "-m", tiny_checkpoint, "-o", tmp_path / "bundle", "--max-context", "512")
    with stopped(100, *words) as process:
        process.kill()
        process.communicate()
    assert (tmp_path / PARTIAL / JOURNAL_NAME).exists()
    command = [sys.executable, "-m", "phiedge", *map(str, words), "--precision", "fp32", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.startswith(
        f"note: what an earlier export left in {tmp_path / PARTIAL} was removed: it is of"
    )
    assert Bundle.open(tmp_path / "bundle").check_files() == []
    assert Bundle.open(tmp_path / "bundle").manifest.precision.name == "fp32"
