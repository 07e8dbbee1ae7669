"""A sampler in a process of its own, on recorded systems and on this machine."""

import os
import select
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from held_files import held, surfaces
from phiedge.devices.telemetry import Sample, Sampler, disturbances
from phiedge.devices.telemetry.sample import take
from phiedge.errors import DeviceError, UsageError
from recorded_trees import TREES, read, unpack


def sample_of(tree: str) -> Sample:
    return take(surfaces(held(read(tree))), clock_ns=lambda: 5)


def test_a_sample_has_what_the_system_tells() -> None:
    assert sample_of("orin-nx-16") == Sample(
        at_ns=5,
        core_mhz=1984.0,
        gpu_mhz=1173.0,
        memory_mhz=None,
        celsius=94.0,
        watts=21.0,
        over_current_events=3,
        available_bytes=9_000_000 * 1024,
        swapped_bytes=(204_800 + 1_048_576) * 1024,
        gpu_used_bytes=None,
        held_down=(),
    )
    assert sample_of("agx-orin-64-jetpack-7").memory_mhz == 3199
    card = sample_of("rtx-4090-desktop")
    assert card.held_down == ("power cap",)
    assert card.watts is not None
    assert card.gpu_used_bytes is not None
    assert sample_of("agx-orin-64-jetpack-6").watts == pytest.approx((256 + 48 + 200) * 19.936e-3, abs=0.002)


@pytest.mark.parametrize("tree", TREES)
def test_a_line_gives_the_sample_back(tree: str) -> None:
    assert Sample.of_line(sample_of(tree).as_line()) == sample_of(tree)


@pytest.mark.parametrize("line", ["", "{", "[]", "{}", '{"at_ns": 1}'])
def test_another_line_is_refused(line: str) -> None:
    with pytest.raises(DeviceError, match="a sample"):
        Sample.of_line(line)


def test_samples_are_taken_beside_what_runs(tmp_path: Path) -> None:
    tree = unpack("orin-nx-16", tmp_path)
    with Sampler(tmp_path / "samples", every_seconds=0.5, sysroot=tree) as sampler:
        pass
    first, *others = sampler.samples()
    assert first == replace(sample_of("orin-nx-16"), at_ns=first.at_ns)
    assert len(others) < 100


def test_this_machine_is_sampled(tmp_path: Path) -> None:
    with Sampler(tmp_path / "samples") as sampler:
        pass
    assert sampler.samples()[0].available_bytes


def test_a_sampler_ends_with_whoever_started_it(tmp_path: Path) -> None:
    code = (
        "import os, pathlib; from phiedge.devices.telemetry import Sampler\n"
        f"sampler = Sampler(pathlib.Path({str(tmp_path / 'samples')!r})).__enter__()\n"
        "print(sampler._process.pid, flush=True); os._exit(9)"
    )
    started = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(started.stdout)
    # It ends at the end of its standard input; waited for through its own file descriptor, as it is not our child.
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], 30)[0]
    os.close(descriptor)


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="could not be written"), Sampler(tmp_path / "missing" / "samples"):
        pass


@pytest.mark.parametrize("seconds", [0.1, 0, -1, 1000, float("nan")])
def test_another_pace_is_refused(tmp_path: Path, seconds: float) -> None:
    with pytest.raises(UsageError, match="0.5 to 60 seconds"):
        Sampler(tmp_path / "samples", every_seconds=seconds)


def test_a_machine_that_stays_as_it_is_was_not_disturbed() -> None:
    one = sample_of("agx-orin-64-jetpack-7")
    assert disturbances([one, one, one]) == ()


def test_what_changed_is_told() -> None:
    one = sample_of("orin-nx-16")
    later = replace(
        one,
        gpu_mhz=900.0,
        over_current_events=5,
        swapped_bytes=one.swapped_bytes + 2**20,
        held_down=("power cap",),
    )
    assert disturbances([one, later, one]) == (
        "the clock of the GPU moved between 900 and 1173 MHz",
        "the current was cut 2 times",
        "1.0 MiB were swapped out",
        "a card was held down by power cap",
    )


def test_one_sample_tells_nothing() -> None:
    with pytest.raises(DeviceError, match="2 at least are needed"):
        disturbances([sample_of("orin-nx-16")])
