"""Processes beside what is measured: that compute, or that stream through more memory than any cache holds."""

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

CONDITIONS = ("idle", "cpu", "memory")


@contextmanager
def neighbours(condition: str) -> Iterator[None]:
    """Beside `condition`, one process for every two processors."""
    if condition not in CONDITIONS:
        raise SystemExit(f"error: there is no condition {condition!r}, only {', '.join(CONDITIONS)}")
    work = {"idle": None, "cpu": _compute, "memory": _stream}[condition]
    count = 0 if work is None else max(1, (os.cpu_count() or 2) // 2)
    processes = [multiprocessing.get_context("spawn").Process(target=work, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _ordinary() -> None:
    """Scheduled like anybody, whatever who started this asked of the system for itself."""
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _compute() -> None:
    _ordinary()
    rows = np.random.default_rng(0).standard_normal(1024)
    while True:
        rows = np.tanh(rows) + 1e-3  # small enough for the nearest cache


def _stream() -> None:
    _ordinary()
    there, here = np.ones(32 << 20, dtype=np.uint64), np.empty(32 << 20, dtype=np.uint64)
    while True:
        np.copyto(here, there)
        np.copyto(there, here)
