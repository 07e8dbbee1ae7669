"""Samples taken by a process of its own, so that looking at the machine does not disturb what is measured on it.

The process writes one line for each sample and ends when the pipe to its standard input closes: when it is told to, or
when whoever started it has died. It never outlives them.
"""

import subprocess
import sys
from pathlib import Path
from types import TracebackType

from phiedge.devices.telemetry.sample import Sample
from phiedge.errors import DeviceError, UsageError

LEAST_SECONDS, MOST_SECONDS = 0.5, 60.0
_MOST_WAIT_SECONDS = 30.0  # a sample waits for nvidia-smi for 10 seconds at most


class Sampler:
    """A running sampler: use it as a context manager, and read `samples` when it has ended."""

    def __init__(self, path: Path, *, every_seconds: float = 1.0, sysroot: Path | None = None) -> None:
        if not LEAST_SECONDS <= every_seconds <= MOST_SECONDS:
            raise UsageError(
                f"a sample every {every_seconds:g} seconds was asked",
                remedy=f"take one every {LEAST_SECONDS:g} to {MOST_SECONDS:g} seconds",
            )
        self._path, self._every, self._sysroot = path, every_seconds, sysroot
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Sampler":
        assert self._process is None, "a sampler is used once"
        words = [sys.executable, "-P", "-m", "phiedge.devices.telemetry", str(self._path), f"{self._every:g}"]
        if sys.version_info < (3, 11):
            words.remove("-P")
        if self._sysroot is not None:
            words.append(str(self._sysroot))
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():  # it says when the first sample is written
            self._end()
            raise DeviceError(f"samples could not be written to {self._path}", remedy="name a file that can be written")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def samples(self) -> tuple[Sample, ...]:
        """Every sample, in order. The last line is left out if the process was killed while it wrote it."""
        assert self._process is None, "it is still running"
        text = self._path.read_text(encoding="utf-8")
        return tuple(Sample.of_line(line) for line in text.split("\n")[:-1])

    def _end(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(_MOST_WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
