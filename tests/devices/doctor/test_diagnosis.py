"""What the doctor finds in the recorded systems, each with a reason and a command."""

import pytest

from held_files import held, surfaces
from phiedge.devices.doctor import Diagnosis, diagnose
from phiedge.devices.probe.probing import probe_surfaces
from recorded_trees import TREES, read


def diagnosed(tree: str, **changed: str | None) -> Diagnosis:
    files = held(read(tree))
    for name, text in changed.items():
        path = "/" + name.replace("__", "/")
        files.pop(path, None)
        if text is not None:
            files[path] = text.encode()
    system = surfaces(files)
    return diagnose(probe_surfaces(system), system)


def names(diagnosis: Diagnosis) -> list[str]:
    return [finding.name for finding in diagnosis.findings]


def test_a_board_that_was_set_up_has_no_finding() -> None:
    assert diagnosed("agx-orin-64-jetpack-7") == Diagnosis(findings=(), unknown=())


def test_a_board_as_it_comes_is_told_to_choose_a_mode_and_to_lock_its_clocks() -> None:
    found = diagnosed("agx-orin-64-jetpack-6")
    assert names(found)[:3] == ["power mode", "governor", "gpu clock"]
    assert found.findings[0].fix == "sudo nvpmodel -m 0"
    assert "zram" in names(found)


def test_the_number_of_the_full_mode_is_that_of_the_modules_own_table() -> None:
    found = diagnosed("orin-nano-8")
    assert found.findings[0].what == "the power mode is 15W"
    assert found.findings[0].fix == "sudo nvpmodel -m 2"
    assert "memory clock" in names(found)


def test_a_hot_board_that_swaps_is_told_so() -> None:
    found = diagnosed("orin-nx-16")
    for name in ("heat", "over-current", "zram", "swap", "memory pressure"):
        assert name in names(found)
    assert found.unknown == ("memory clock",)


def test_a_desktop_with_another_user_of_its_gpu_is_told_which() -> None:
    found = diagnosed("rtx-4090-desktop")
    by_name = {finding.name: finding for finding in found.findings}
    assert by_name["gpu user"].fix == "kill 4242"
    assert "power cap" in by_name["held down"].what
    assert by_name["persistence"].when == "risk"


def test_rights_that_come_from_capabilities_count() -> None:
    root = "Name:\tbash\nCapEff:\t000001ffffffffff\n"
    assert "real-time priority" in names(diagnosed("orin-nano-8"))
    assert "real-time priority" not in names(diagnosed("orin-nano-8", proc__self__status=root))


def test_a_busy_machine_is_told_how_busy() -> None:
    busy = diagnosed("agx-orin-64-jetpack-7", proc__loadavg="9.50 4.00 2.00 3/400 77\n")
    assert names(busy) == ["load"]


def test_what_the_system_does_not_tell_is_listed_and_never_found() -> None:
    silent = surfaces({})
    found = diagnose(probe_surfaces(silent), silent)
    assert found.findings == ()
    assert set(found.unknown) == {
        "governor",
        "heat",
        "swap",
        "memory",
        "load",
        "real-time rights",
        "real-time throttle",
    }


@pytest.mark.parametrize("tree", TREES)
def test_every_finding_has_a_reason_and_a_way_out(tree: str) -> None:
    for finding in diagnosed(tree).findings:
        assert finding.when in ("now", "risk")
        assert len(finding.why) > 20
        assert finding.fix
