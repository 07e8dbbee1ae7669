import resource
import subprocess
import sys
from pathlib import Path

import pytest

from phiedge.devices import memory_limits
from phiedge.devices.memory_limits import MemoryLimit, available_addresses, available_memory, require_memory
from phiedge.errors import DeviceError


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with 8 GB available, and a process that has 1 GB mapped, in no control group."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable:    8000000 kB\n")
    (tmp_path / "proc" / "self" / "status").write_text("Name:\tx\nVmSize:\t 1000000 kB\nVmData:\t  400000 kB\n")
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/\n")
    (tmp_path / "cgroup").mkdir()
    return tmp_path


def limits(machine: Path) -> MemoryLimit | None:
    return available_memory(proc=machine / "proc", cgroups=machine / "cgroup")


def put(directory: Path, **files: object) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(f"{text}\n")


def test_the_machine_itself_limits(machine: Path) -> None:
    assert limits(machine) == MemoryLimit(bytes=8_192_000_000, by="the machine")


def test_a_control_group_limits_less_what_is_used_and_cannot_be_dropped(machine: Path) -> None:
    put(machine / "proc" / "self", cgroup="0::/a/b")
    put(machine / "cgroup" / "a", memory__max=3_000_000_000, memory__current=1_000_000_000)
    put(machine / "cgroup" / "a", memory__stat="anon 5\ninactive_file 400000000")
    put(machine / "cgroup" / "a" / "b", memory__max="max", memory__current=1_000_000_000)
    found = limits(machine)
    assert found is not None
    assert (found.bytes, found.by.split(" (")[0]) == (2_400_000_000, "the control group")


def test_a_control_group_of_the_first_version_limits(machine: Path) -> None:
    put(machine / "proc" / "self", cgroup="4:memory:/box\n2:cpu:/\n0::/")
    put(machine / "cgroup" / "memory" / "box", memory__limit_in_bytes=2 * 10**9, memory__usage_in_bytes=5 * 10**8)
    put(machine / "cgroup" / "memory", memory__limit_in_bytes=9223372036854771712, memory__usage_in_bytes=10**9)
    found = limits(machine)
    assert found is not None
    assert found.bytes == 1_500_000_000


def test_a_system_that_tells_nothing_limits_nothing(tmp_path: Path) -> None:
    assert available_memory(proc=tmp_path, cgroups=tmp_path) is None
    require_memory("x", resident_bytes=10**15, mapped_bytes=0, remedy="none", proc=tmp_path, cgroups=tmp_path)


@pytest.mark.parametrize(
    ("kind", "by", "left_bytes"),
    [(resource.RLIMIT_AS, "ulimit -v", 976_000_000), (resource.RLIMIT_DATA, "ulimit -d", 1_590_400_000)],
)
def test_limits_of_the_process_count_what_is_mapped(
    machine: Path, monkeypatch: pytest.MonkeyPatch, kind: int, by: str, left_bytes: int
) -> None:
    unlimited = resource.RLIM_INFINITY
    monkeypatch.setattr(
        memory_limits.resource, "getrlimit", lambda asked: (2_000_000_000 if asked == kind else unlimited, unlimited)
    )
    assert available_addresses(proc=machine / "proc") == MemoryLimit(bytes=left_bytes, by=by)


def test_what_does_not_fit_is_refused_with_both_numbers_and_the_remedy(machine: Path) -> None:
    places = {"proc": machine / "proc", "cgroups": machine / "cgroup"}
    require_memory("it", resident_bytes=8_000_000_000, mapped_bytes=10**13, remedy="less", **places)
    with pytest.raises(DeviceError, match="it needs 9,000 MB of memory, the machine leaves 8,192 MB") as caught:
        require_memory("it", resident_bytes=9_000_000_000, mapped_bytes=0, remedy="take less", **places)
    assert caught.value.remedy == "take less"


def test_a_limit_of_the_shell_refuses_an_export_before_anything_is_loaded(tmp_path: Path) -> None:
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9)); "
        "from phiedge.cli import main; code = main(sys.argv[1:]); assert 'torch' not in sys.modules; sys.exit(code)"
    )
    command = [sys.executable, "-c", script, "export", "-t", "cpu", "-o", str(tmp_path / "bundle")]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 1, finished.stderr
    said = finished.stderr.splitlines()
    assert said[0].startswith("error: an export needs 1,")
    assert "ulimit -v leaves" in said[0]
    assert said[1].startswith("remedy: raise the limit")
    assert list(tmp_path.iterdir()) == []
