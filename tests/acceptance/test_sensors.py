"""What sensors tell of a run, on recorded boards and from samples that cannot be right."""

from pathlib import Path
from typing import Any

import pytest

from phiedge.acceptance.environment import LinuxWatcher
from phiedge.acceptance.preconditions import Preconditions
from phiedge.acceptance.sensors import Sensors, sense
from phiedge.devices.telemetry import Sample
from phiedge.errors import UsageError
from recorded_trees import unpack

SECOND = 1_000_000_000


def samples(**columns: list[Any]) -> list[Sample]:
    count = len(next(iter(columns.values())))
    quiet: dict[str, Any] = {
        "core_mhz": 2000.0, "gpu_mhz": 1300.0, "memory_mhz": 3199.0, "celsius": 50.0, "watts": 30.0,
        "over_current_events": 3, "available_bytes": 8 << 30, "swapped_bytes": 0, "gpu_used_bytes": None,
        "held_down": (),
    }  # fmt: skip
    return [
        Sample(at_ns=place * SECOND, **(quiet | {name: values[place] for name, values in columns.items()}))
        if "at_ns" not in columns
        else Sample(**(quiet | {name: values[place] for name, values in columns.items()}))
        for place in range(count)
    ]


def told(**columns: list[Any]) -> Any:
    taken = samples(**columns)
    return sense(taken, begun_ns=0, ended_ns=taken[-1].at_ns + SECOND, every_seconds=1.0)


def test_figures_are_the_worst_of_the_run() -> None:
    found = told(gpu_mhz=[1300.0, 975.0, None], celsius=[40.0, 91.0, 80.0], over_current_events=[3, 3, 8])
    figures = found.figures
    assert (figures["gpu_mhz"], figures["clock_shift"]) == (975.0, 0.25)
    assert (figures["celsius_start"], figures["celsius"], figures["over_current_events"]) == (40.0, 91.0, 5)
    assert found.broken == ()
    assert found.series["at_s"] == [0.0, 1.0, 2.0]
    assert found.series["gpu_mhz"] == [1300.0, 975.0, None]
    assert "gpu_used_bytes" not in found.series


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"over_current_events": [5, 6, 2]}, "counter of over-currents went backwards"),
        ({"at_ns": [5 * SECOND, 4 * SECOND]}, "clock of the sensors went backwards"),
    ],
)
def test_what_goes_backwards_is_not_trusted(columns: dict[str, list[Any]], said: str) -> None:
    assert said in told(**columns).broken[0]


def test_a_sampler_that_died_is_noticed() -> None:
    taken = samples(celsius=[40.0, 41.0])
    assert "died" in sense(taken, begun_ns=0, ended_ns=120 * SECOND, every_seconds=1.0).broken[0]
    assert "died" in sense([], begun_ns=0, ended_ns=SECOND, every_seconds=1.0).broken[0]


def test_what_holds_a_card_down_is_noted_and_counted() -> None:
    found = told(held_down=[(), ("power cap",), ("power cap",)])
    assert found.figures["throttled_samples"] == 2
    assert found.notes == ("a card was held down by power cap",)


def watched(tree: Path, **wanted: Any) -> Any:
    watcher = LinuxWatcher(Preconditions(**wanted), sensors=Sensors(every_seconds=0.5, sysroot=tree))
    watcher.start()
    return watcher.stop()


def test_a_recorded_board_keeps_and_breaks_preconditions(tmp_path: Path) -> None:
    tree = unpack("orin-nx-16", tmp_path)
    found = watched(tree, power_mode="MAXN", celsius_max=60.0, gpu_mhz_min=1000.0, memory_mhz_min=3000.0)
    assert found.power_mode is not None
    assert [said.partition(" was ")[0].partition(" is ")[0] for said in found.broken] == [
        "memory_mhz", "celsius", "the power mode",
    ]  # fmt: skip
    assert found.series["watts"][0] == 21.0


def test_a_power_mode_that_changes_meanwhile_is_told(tmp_path: Path) -> None:
    tree = unpack("orin-nx-16", tmp_path)
    watcher = LinuxWatcher(Preconditions(), sensors=Sensors(every_seconds=0.5, sysroot=tree))
    watcher.start()
    status = tree / "var/lib/nvpmodel/status"
    before = status.read_text(encoding="utf-8")
    status.write_text("pmode:0001 fmode:quiet\n", encoding="utf-8")
    assert before.split()[0] != "pmode:0001"
    assert "power mode changed from" in watcher.stop().broken[0]


def test_a_temperature_in_fahrenheit_or_a_share_in_percent_is_refused() -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        Preconditions(clock_shift_max=3.0)
    with pytest.raises(UsageError, match="0 or more"):
        Preconditions(gpu_mhz_min=-1.0)


def test_nothing_of_the_sampler_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    watched(unpack("orin-nano-8", tmp_path / "tree"))
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]
