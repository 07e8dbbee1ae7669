import os
from pathlib import Path

import pytest

from phiedge.devices import host as of_host
from phiedge.devices.host import Disturbance, host, last_level_cache_bytes, process_memory, reset_peak_memory


@pytest.fixture
def cpus(tmp_path: Path) -> Path:
    """A machine of two cores as /sys shows it, with a clock and three caches."""
    for core, kilohertz in ((0, 2_000_000), (1, 3_000_000)):
        directory = tmp_path / f"cpu{core}" / "cpufreq"
        directory.mkdir(parents=True)
        (directory / "scaling_cur_freq").write_text(f"{kilohertz}\n")
        (directory / "scaling_governor").write_text("schedutil\n")
    for index, size in enumerate(("64K", "2048K", "32M")):
        directory = tmp_path / "cpu0" / "cache" / f"index{index}"
        directory.mkdir(parents=True)
        (directory / "size").write_text(size + "\n")
    return tmp_path


def test_the_clock_is_the_mean_of_the_cores_and_the_governor_is_named(cpus: Path) -> None:
    found = host(cpus=cpus)
    assert found.clock_mhz == 2500.0
    assert found.governor == "schedutil"


def test_the_last_cache_is_the_largest(cpus: Path) -> None:
    assert last_level_cache_bytes(cpus=cpus) == 32 * 2**20


def test_what_a_machine_does_not_tell_is_unknown(tmp_path: Path) -> None:
    found = host(proc=tmp_path, cpus=tmp_path)
    assert found.clock_mhz is None
    assert found.governor is None
    assert found.last_level_cache_bytes is None
    assert found.cores == len(os.sched_getaffinity(0))
    assert found.cpu


def test_memory_is_split_into_own_pages_and_pages_of_files(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    status = "Name:\tx\nVmHWM:\t    3000 kB\nRssAnon:\t    1000 kB\nRssFile:\t    500 kB\nRssShmem:\t    4 kB\n"
    (tmp_path / "self" / "status").write_text(status)
    found = process_memory(proc=tmp_path)
    assert found.anonymous_bytes == 1004 * 1024
    assert found.file_bytes == 500 * 1024
    assert found.peak_bytes == 3000 * 1024


def test_this_process_has_memory() -> None:
    found = process_memory()
    assert found.anonymous_bytes > 0
    assert found.anonymous_bytes + found.file_bytes <= found.peak_bytes + 2**20


def test_a_peak_that_cannot_be_reset_is_told(tmp_path: Path) -> None:
    assert not reset_peak_memory(proc=tmp_path / "nowhere")


def test_a_peak_is_reset_by_the_word_that_linux_takes(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    assert reset_peak_memory(proc=tmp_path)
    assert (tmp_path / "self" / "clear_refs").read_text() == "5"


def test_free_memory_is_that_without_swapping(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 40 kB\nHugePages_Total: 0\n")
    assert of_host.available_memory_bytes(proc=tmp_path) == 40 * 1024


def test_disturbances_are_counted_from_an_earlier_moment() -> None:
    earlier = Disturbance(minor_faults=10, major_faults=1, involuntary_switches=3)
    later = Disturbance(minor_faults=15, major_faults=1, involuntary_switches=7)
    assert later.since(earlier) == Disturbance(minor_faults=5, major_faults=0, involuntary_switches=4)
    assert of_host.disturbance().minor_faults > 0
