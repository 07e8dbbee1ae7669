import subprocess
import sys
from dataclasses import replace

import pytest

from phiedge.bundle import Bundle, FileEntry
from phiedge.engines.engine_record import BuiltEngine, EngineRecord
from phiedge.engines.onnxruntime import memory_need
from phiedge.engines.onnxruntime.memory_need import require_memory_to_open

GB = 10**9


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What `require_memory` was asked for last."""
    found: dict[str, int] = {}

    def note(what: str, *, resident_bytes: int, mapped_bytes: int, remedy: str) -> None:
        found.update(resident=resident_bytes, mapped=mapped_bytes)

    monkeypatch.setattr(memory_need, "require_memory", note)
    return found


def with_data(bundle: Bundle, decoder_bytes: int, vision_bytes: int) -> Bundle:
    """The same bundle with files that are said to be larger."""
    entries = dict(bundle.manifest.files)
    for name, size_bytes in (("decoder.data", decoder_bytes), ("vision.data", vision_bytes)):
        entries[name] = FileEntry(sha256="0" * 64, bytes=size_bytes)
    return replace(bundle, manifest=replace(bundle.manifest, files=entries))


def packed_engine(bundle: Bundle, size_bytes: int) -> BuiltEngine:
    record = EngineRecord(
        backend="onnxruntime",
        phiedge_version="0.1.0",
        tools={},
        machine={},
        options={"weights": "packed"},
        source={},
        vision="graph",
        decoder="graph",
        goldens=None,
        files={"graph": FileEntry(sha256="0" * 64, bytes=size_bytes)},
    )
    return BuiltEngine(path=bundle.path, record=record)


@pytest.mark.parametrize(("group_size", "resident"), [(32, 13.4), (128, 12.1)])
def test_weights_count_as_they_are_packed_and_widened(
    tiny_bundle: Bundle, asked: dict[str, int], group_size: int, resident: float
) -> None:
    bundle = with_data(tiny_bundle, 9 * GB, 1 * GB)
    precision = replace(bundle.manifest.precision, group_size=group_size)
    bundle = replace(bundle, manifest=replace(bundle.manifest, precision=precision))
    require_memory_to_open(bundle, bundle.manifest.dialects["ort"], None, capacity=8)
    # 9 GB once more with a sum for each scale, 1 GB twice as wide, and 3 % to compute in.
    assert asked["resident"] / GB == pytest.approx(resident, abs=0.1)
    assert asked["mapped"] - asked["resident"] >= 10 * GB


def test_a_packed_engine_takes_little_of_its_own(tiny_bundle: Bundle, asked: dict[str, int]) -> None:
    bundle = with_data(tiny_bundle, 9 * GB, 1 * GB)
    require_memory_to_open(bundle, bundle.manifest.dialects["ort"], packed_engine(bundle, 20 * GB), capacity=8)
    assert asked["resident"] < 0.5 * GB
    assert asked["mapped"] > 20 * GB


def test_the_cache_counts_by_its_capacity(tiny_bundle: Bundle, asked: dict[str, int]) -> None:
    facts = tiny_bundle.manifest.facts
    needs = []
    for capacity in (1000, 2000):
        require_memory_to_open(tiny_bundle, tiny_bundle.manifest.dialects["ort"], None, capacity=capacity)
        needs.append(asked["resident"])
    per_position = 2 * facts.num_layers * facts.num_kv_heads * facts.head_dim * 4 + facts.hidden_size * 4
    assert needs[1] - needs[0] == 1000 * per_position


def test_a_limit_on_addresses_is_met_before_anything_is_opened(tiny_bundle: Bundle) -> None:
    limited = (
        "import resource, phiedge; import phiedge.runtime.session, phiedge.engines.onnxruntime.opening\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + 1_000_000, resource.RLIM_INFINITY))\n"
        f"phiedge.Session.open({str(tiny_bundle.path)!r})"
    )
    finished = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True)
    assert finished.returncode == 1
    last = finished.stderr.strip().splitlines()
    assert any("DeviceError" in line and "ulimit -v leaves" in line for line in last), finished.stderr
