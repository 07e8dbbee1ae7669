"""Other work while it is measured, by processes of their own: arithmetic without end, and copies of memory at a rate.

Who copies tells how much it did; where that is less than was asked, the machine was not as the spec asks.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from phiedge.acceptance.preconditions import CoLoad

_COMPUTE = """
import select, sys
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(200_000): pass
"""
# Both end when their standard input closes, which it does with whoever started them. This one copies 32 MiB at a time,
# which no cache of a small device holds, and says how many GB it read and wrote in a second.
_COPY = """
import select, sys, threading, time
import numpy as np
here, there, piece = np.ones(1 << 22), np.ones(1 << 22), 64 * 2**20
gbps, done, begun = float(sys.argv[1]), 0, time.perf_counter()
print("copying", flush=True)
while True:
    np.copyto(there, here)
    done += piece
    if gbps:
        threading.Event().wait(max(0.0, begun + done / (1e9 * gbps) - time.perf_counter()))
    if select.select([sys.stdin], [], [], 0)[0]: break
print(done / (time.perf_counter() - begun) / 1e9, flush=True)
"""
_LEAST_SHARE = 0.9  # of the rate that was asked


@dataclass(slots=True)
class Loads:
    """What the co-load reached, known when it has ended; None where nobody copied memory."""

    memory_gbps: float | None = None
    short: str | None = None


@contextmanager
def loaded(coload: CoLoad) -> Iterator[Loads]:
    """Runs it until it is left; nothing of it stays behind."""
    loads = Loads()
    computing = [_started("-S", "-c", _COMPUTE) for _ in range(coload.cpu_threads)]
    share = (coload.memory_gbps or 0.0) / max(1, coload.memory_threads)
    copying = [_started("-c", _COPY, f"{share:g}") for _ in range(coload.memory_threads)]
    try:
        for process in copying:
            _line(process)  # it says when it has its memory
        yield loads
        loads.memory_gbps = _copied_gbps(copying) if copying else None
        if coload.memory_gbps and (loads.memory_gbps or 0.0) < _LEAST_SHARE * coload.memory_gbps:
            loads.short = f"the co-load copied {loads.memory_gbps:.3g} GB/s, {coload.memory_gbps:g} were asked"
    finally:
        for process in (*computing, *copying):
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _started(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _copied_gbps(processes: list[subprocess.Popen[str]]) -> float:
    """End them, and add up what they say; one that died copied nothing."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    said = [_line(process).strip() for process in processes]
    return sum(float(line) for line in said if line)
