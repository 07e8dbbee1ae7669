"""What Linux tells of a machine, from recorded files."""

import time
from pathlib import Path

import pytest

from phiedge.acceptance import environment
from phiedge.acceptance.environment import LinuxWatcher
from phiedge.acceptance.preconditions import Preconditions

HZ = environment._TICKS_HZ


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, path in (("_STAT", "stat"), ("_VMSTAT", "vmstat"), ("_MEMINFO", "meminfo")):
        monkeypatch.setattr(environment, name, tmp_path / path)
    tell(tmp_path)
    return tmp_path


def tell(machine: Path, *, busy: int = 0, swapped: int = 0, free_kib: int = 1000) -> None:
    (machine / "stat").write_text(f"cpu  {busy} 0 0 999 5 0 0 0 0 0\ncpu0 1\n", encoding="utf-8")
    (machine / "vmstat").write_text(f"pgfault 3\npswpin {swapped}\npswpout 9\n", encoding="utf-8")
    (machine / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {free_kib} kB\n", encoding="utf-8")


def test_a_quiet_machine_holds_its_preconditions(machine: Path) -> None:
    watcher = LinuxWatcher(
        Preconditions(foreign_cpu_share_max=0.5, swap_in_pages_max=0, memory_available_bytes_min=1_000_000)
    )
    watcher.start()
    assert watcher.stop().broken == ()


def test_whatever_breaks_is_named_with_both_numbers(machine: Path) -> None:
    watcher = LinuxWatcher(
        Preconditions(foreign_cpu_share_max=0.5, swap_in_pages_max=2, memory_available_bytes_min=1_000_000)
    )
    watcher.start()
    tell(machine, busy=1_000_000 * HZ, swapped=7, free_kib=10)
    broken = watcher.stop().broken
    assert len(broken) == 3
    assert "swap_in_pages was 7, more than the 2" in broken[1]
    assert "less than the" in broken[2]


def test_a_figure_that_is_asked_for_and_not_told_breaks(machine: Path) -> None:
    watcher = LinuxWatcher(Preconditions(foreign_cpu_share_max=0.5))
    (machine / "stat").unlink()
    watcher.start()
    watched = watcher.stop()
    assert watched.figures["foreign_cpu_share"] is None
    assert "does not tell it" in watched.broken[0]


def test_sensors_that_nobody_asked_for_may_fail(machine: Path) -> None:
    (machine / "vmstat").write_text("pswpin many\n", encoding="utf-8")
    (machine / "stat").unlink()
    watcher = LinuxWatcher(Preconditions())
    watcher.start()
    assert watcher.stop().broken == ()


def test_a_counter_that_goes_backwards_breaks_unasked(machine: Path) -> None:
    tell(machine, swapped=7, busy=50)
    watcher = LinuxWatcher(Preconditions())
    watcher.start()
    tell(machine, swapped=3, busy=20)
    broken = watcher.stop().broken
    assert "processor time of the system went backwards" in broken[0]
    assert "pages swapped in went backwards, from 7 to 3" in broken[1]


def test_a_clock_that_is_set_meanwhile_is_noted_and_a_machine_that_slept_is_not_measured(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_by, slept = [0.0], [0.0]
    monkeypatch.setattr(environment.time, "time", lambda: 1e9 + time.monotonic() + set_by[0])
    monkeypatch.setattr(environment.time, "clock_gettime", lambda clock: time.monotonic() + slept[0])
    watcher = LinuxWatcher(Preconditions())
    watcher.start()
    set_by[0], slept[0] = -3600.0, 0.0
    watched = watcher.stop()
    assert watched.broken == ()
    assert "set by -3600.0 s" in watched.notes[0]
    watcher.start()
    slept[0] = 60.0
    assert "slept for 60.0 s" in watcher.stop().broken[0]


def test_the_peak_of_memory_is_that_of_the_run(machine: Path) -> None:
    watcher = LinuxWatcher(Preconditions())
    watcher.start()
    figures = watcher.stop().figures
    assert figures["peak_rss_bytes"]
    assert figures["system_bytes"] == 0
    assert figures["gpu_bytes"] is None
