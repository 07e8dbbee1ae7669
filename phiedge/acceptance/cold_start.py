"""Cold starts: a new process, whose bundle has to be read from the disk, until its first token.

`python -m phiedge.acceptance.cold_start OPTIONS` is that process: it opens a session, asks for one token and says so.
The files of the bundle are dropped from the page cache before, as far as the kernel does what it is told: pages that
another process maps stay. Whoever measures should know what else is open.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phiedge.errors import DeviceError
from phiedge.runtime.realtime import RealtimePolicy

_ANSWERED = "answered"
_MOST_S = 900.0
_MOST_TOLD = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a new process does: open `bundle` with these wishes, and answer `prompt` with one token."""

    bundle: str
    prompt: str
    max_context: int | None
    threads: int | None
    backend: str | None
    realtime: RealtimePolicy | None = None

    def written(self) -> str:
        """For the command line of the process."""
        return json.dumps(asdict(self))

    @staticmethod
    def read(text: str) -> "Start":
        """What `written` wrote."""
        options = json.loads(text)
        wishes = options.pop("realtime")
        return Start(**options, realtime=None if wishes is None else RealtimePolicy(**_with_tuples(wishes)))


def _with_tuples(wishes: dict[str, Any]) -> dict[str, Any]:
    """JSON has only lists."""
    sizes, cpus = wishes["warm_up"], wishes["cpus"]
    return wishes | {
        "cpus": None if cpus is None else tuple(cpus),
        "warm_up": None if sizes is None else tuple(map(tuple, sizes)),
    }


def cold_starter(start: Start) -> Callable[[], float]:
    """Measures one cold start, in milliseconds from the start of the process to its first token."""

    def measure() -> float:
        drop_from_cache(Path(start.bundle))
        words = [sys.executable, "-m", "phiedge.acceptance.cold_start", start.written()]
        begun_ns = time.perf_counter_ns()
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        took_ms = (time.perf_counter_ns() - begun_ns) / 1e6
        try:
            _, errors = process.communicate(timeout=_MOST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            _, errors = process.communicate()
        if line != _ANSWERED or process.returncode:
            raise DeviceError(
                f"a cold start did not answer (exit code {process.returncode}): {errors.strip()[-_MOST_TOLD:]}",
                remedy="see whether `phiedge run` answers on this machine",
            )
        return took_ms

    return measure


def drop_from_cache(bundle: Path) -> None:
    """Ask the kernel to forget what it has of a bundle's files."""
    for path in sorted(bundle.rglob("*")):
        if not path.is_file():
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def main(options: str) -> None:
    """Open, answer one token, and say so at once."""
    from phiedge.runtime.session import Session

    start = Start.read(options)
    with Session.open(
        start.bundle,
        max_context=start.max_context,
        threads=start.threads,
        backend=start.backend,
        realtime=start.realtime,
    ) as session:
        for event in session.stream(start.prompt, max_new_tokens=1):
            if event.token_id is not None:
                print(_ANSWERED, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
