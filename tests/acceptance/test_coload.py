"""Other work beside a measurement: it runs, tells what it did, and is gone."""

import subprocess

import pytest

from phiedge.acceptance import coload
from phiedge.acceptance.coload import loaded
from phiedge.acceptance.preconditions import CoLoad
from phiedge.errors import UsageError


def test_memory_is_copied_at_the_rate_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []
    real = coload._started

    def noted(*words: str) -> subprocess.Popen[str]:
        started.append(real(*words))
        return started[-1]

    monkeypatch.setattr(coload, "_started", noted)
    with loaded(CoLoad(cpu_threads=1, memory_threads=1, memory_gbps=1000.0)) as loads:
        assert all(process.poll() is None for process in started)
    assert loads.memory_gbps is not None
    assert loads.memory_gbps > 0.0
    assert loads.short is not None
    assert "1000 were asked" in loads.short
    assert len(started) == 2
    assert all(process.returncode is not None for process in started)


def test_no_load_is_no_process() -> None:
    with loaded(CoLoad()) as loads:
        pass
    assert (loads.memory_gbps, loads.short) == (None, None)


def test_a_rate_without_anybody_to_copy_is_refused() -> None:
    with pytest.raises(UsageError, match="needs somebody to copy"):
        CoLoad(memory_gbps=2.0)
