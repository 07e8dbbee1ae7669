"""What a probe finds in the recorded systems."""

from pathlib import Path

import pytest

from held_files import held, surfaces
from phiedge.devices.probe import Probe, probe
from phiedge.devices.probe.probing import probe_surfaces
from phiedge.errors import UsageError
from recorded_trees import TREES, read, unpack


def probed(tree: str, **changed: str | None) -> Probe:
    """The tree with some files changed: `proc__meminfo="..."` stands for /proc/meminfo, None removes it."""
    files = held(read(tree))
    for name, text in changed.items():
        path = "/" + name.replace("__", "/")
        files.pop(path, None)
        if text is not None:
            files[path] = text.encode()
    return probe_surfaces(surfaces(files))


@pytest.mark.parametrize("tree", TREES)
def test_a_tree_on_disk_and_the_same_in_memory_are_the_same(tree: str, tmp_path: Path) -> None:
    assert probe(unpack(tree, tmp_path)) == probed(tree)


@pytest.mark.parametrize(
    ("tree", "device", "l4t", "jetpack", "mode"),
    [
        ("agx-orin-64-jetpack-6", "agx-orin-64", "36.4.3", "6.2", "MODE_30W"),
        ("agx-orin-64-jetpack-7", "agx-orin-64", "39.2.0", "7.2", "MAXN"),
        ("orin-nx-16", "orin-nx-16", "36.4.4", "6.2.1", "MAXN_SUPER"),
        ("orin-nano-8", "orin-nano-8", "36.4.3", "6.2", "15W"),
        ("thor-t5000", "thor-t5000", "38.4.0", "7.1", "120W"),
    ],
)
def test_a_jetson_is_named_with_its_release_and_mode(tree: str, device: str, l4t: str, jetpack: str, mode: str) -> None:
    found = probed(tree)
    assert found.identity.device == device
    assert found.jetson is not None
    assert (found.jetson.l4t, found.jetson.jetpack, found.jetson.power_mode.name) == (l4t, jetpack, mode)
    assert found.problems == () or "nvidia-smi" in found.problems[0]


def test_a_card_is_named_by_name_capability_and_memory() -> None:
    found = probed("rtx-4090-desktop")
    assert found.identity.device == "rtx-4090"
    gpu = found.gpus.found[0]
    assert (gpu.memory_bytes, gpu.clock_mhz, gpu.power_limit_watts) == (24564 * 2**20, 2520, 450)
    assert gpu.held_down == ("power cap",)
    assert [user.pid for user in found.gpus.users] == [4242]


def test_sensors_that_are_off_are_unknown_and_trip_points_are_the_kernels() -> None:
    by_name = {zone.name: zone for zone in probed("agx-orin-64-jetpack-6").zones}
    assert by_name["cv0-thermal"].celsius is None
    assert by_name["tj-thermal"].celsius == 53.0
    assert by_name["tj-thermal"].passive_celsius == 99.0


def test_the_memory_clock_is_roots_or_what_tegrastats_says_or_unknown() -> None:
    assert probed("agx-orin-64-jetpack-7").memory_clock.most_mhz == 3199
    assert probed("orin-nano-8").memory_clock.mhz == 2133
    assert probed("orin-nx-16").memory_clock is None


def test_counters_of_over_current_are_read() -> None:
    assert [counter.events for counter in probed("orin-nx-16").over_currents] == [0, 3, 0]


MODEL, COMPATIBLE = "proc__device-tree__model", "proc__device-tree__compatible"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"proc__meminfo": "MemTotal: 31000000 kB\n"}, "has 64 GiB of memory, the system has 29.6 GiB"),
        ({"proc__meminfo": None}, "does not tell its memory"),
        ({MODEL: "NVIDIA Jetson Orin NX"}, "the model string says"),
        ({COMPATIBLE: "nvidia,p3701-0008\0nvidia,tegra234\0"}, "p3701-0008 is not one that phiedge knows"),
        ({COMPATIBLE: "nvidia,p3701-0005\0nvidia,tegra264\0"}, "has tegra234"),
        ({COMPATIBLE: "nvidia,tegra234\0"}, "does not name one module"),
        ({COMPATIBLE: "nvidia,p3701-0005\0nvidia,p3767-0000\0nvidia,tegra234\0"}, "does not name one module"),
    ],
)
def test_a_module_that_does_not_hold_together_is_unknown(changed: dict[str, str | None], why: str) -> None:
    found = probed("agx-orin-64-jetpack-6", **changed)
    assert found.identity.device is None
    assert why in found.identity.why


def test_the_developer_kit_of_both_sizes_is_told_by_its_memory() -> None:
    kit = "nvidia,p3737-0000+p3701-0000\0nvidia,p3701-0000\0nvidia,tegra234\0"
    assert probed("agx-orin-64-jetpack-6", **{COMPATIBLE: kit}).identity.device == "agx-orin-64"
    small = {COMPATIBLE: kit, "proc__meminfo": "MemTotal: 31500000 kB\n"}
    assert probed("agx-orin-64-jetpack-6", **small).identity.device == "agx-orin-32"


def test_a_container_without_release_files_asks_the_package_and_then_does_not_know() -> None:
    without = {"etc__nv_tegra_release": None}
    assert probed("agx-orin-64-jetpack-6", **without).jetson.l4t is None
    package = {**without, "commands__l4t-package.txt": "nvidia-l4t-core\t36.4.3-20250107174145\n"}
    assert probed("agx-orin-64-jetpack-6", **package).jetson.jetpack == "6.2"


def test_a_release_that_the_kernel_contradicts_is_not_told() -> None:
    found = probed("agx-orin-64-jetpack-6", proc__sys__kernel__osrelease="6.8.12-tegra\n")
    assert found.jetson.l4t is None
    assert "comes with kernel 5.15" in found.problems[0]


def test_a_power_mode_that_the_table_lacks_has_a_number_and_no_name() -> None:
    found = probed("agx-orin-64-jetpack-6", var__lib__nvpmodel__status="pmode:0007 fmode:quiet\n")
    assert (found.jetson.power_mode.number, found.jetson.power_mode.name) == (7, None)
    assert "power mode 7 is not in" in found.problems[0]


HEADER = read("rtx-4090-desktop")["/commands/nvidia-smi-gpus.txt"].splitlines()[0]
CARD = read("rtx-4090-desktop")["/commands/nvidia-smi-gpus.txt"].splitlines()[1]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([CARD, CARD.replace("RTX 4090", "RTX 5090").replace("8.9", "12.0").replace("24564", "32607")], "that differ"),
        ([CARD.replace("Disabled, [N/A]", "Disabled, Enabled")], "divided (MIG)"),
        ([CARD.replace("24564 MiB", "[N/A]")], "nothing tells its memory"),
        ([CARD.replace("24564", "49140")], "here are 48.0 GiB"),
        ([CARD.replace("RTX 4090", "RTX 4090 D")], "is not a card that phiedge knows"),
        ([CARD.replace(" 8.9", " 8.6")], "has SM 8.9"),
        ([CARD + ", 1"], "have no name"),
        ([], "nothing says which"),
    ],
)
def test_cards_that_do_not_hold_together_are_unknown(rows: list[str], why: str) -> None:
    found = probed("rtx-4090-desktop", **{"commands__nvidia-smi-gpus.txt": "\n".join([HEADER, *rows]) + "\n"})
    assert found.identity.device is None
    assert why in found.identity.why + " ".join(found.problems)


def test_two_cards_of_one_kind_are_that_kind() -> None:
    both = {"commands__nvidia-smi-gpus.txt": "\n".join([HEADER, CARD, CARD.replace("0, ", "1, ", 1)])}
    assert probed("rtx-4090-desktop", **both).identity.device == "rtx-4090"


def test_a_spark_is_told_by_the_memory_of_the_system() -> None:
    row = CARD.replace("GeForce RTX 4090", "GB10").replace("8.9", "12.1").replace("24564 MiB, 2710 MiB", "[N/A], [N/A]")
    system = {"commands__nvidia-smi-gpus.txt": f"{HEADER}\n{row}\n", "proc__meminfo": "MemTotal: 125000000 kB\n"}
    assert probed("rtx-4090-desktop", **system).identity.device == "dgx-spark"


def test_a_machine_without_any_of_it_is_a_cpu_and_an_empty_tree_is_unknown(tmp_path: Path) -> None:
    plain = surfaces({"/proc/cpuinfo": b"processor\t: 0\nmodel name\t: A\nflags\t\t: avx2\n"})
    assert probe_surfaces(plain).identity.device == "cpu"
    assert probe(tmp_path).identity.device is None


def test_what_is_not_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a directory"):
        probe(tmp_path / "missing")


def test_this_machine_can_be_probed() -> None:
    found = probe()
    assert found.memory.total_bytes
    assert found.identity.why
