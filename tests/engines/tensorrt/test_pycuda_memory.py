"""pycuda's part, over a stand-in of pycuda: pycuda itself cannot be imported without NVIDIA's driver."""

import ast
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import phiedge.engines.tensorrt
from phiedge.engines.tensorrt import pycuda_memory
from phiedge.engines.tensorrt.device_memory import LineCopy
from phiedge.engines.tensorrt.engine_thread import EngineThread
from phiedge.engines.tensorrt.pycuda_memory import PycudaMemory, load_pycuda
from phiedge.errors import DeviceError, MissingExtraError, SessionError
from pycuda_driver import FakeDriver
from recorded_device import GPU

SURFACE = json.loads((Path(__file__).parent / "surfaces" / "pycuda-2026.1.json").read_text())["names"]
SOURCE = Path(phiedge.engines.tensorrt.__file__).with_name("pycuda_memory.py")
# What our names are objects of.
OBJECTS = {
    "self._stream": "Stream",
    "self._primary": "Context",
    "self._start": "Event",
    "self._stop": "Event",
    "call": "Memcpy2D",
    "allocation": "DeviceAllocation",
}


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    fake = FakeDriver()
    monkeypatch.setitem(sys.modules, "pycuda", fake.module)
    monkeypatch.setitem(sys.modules, "pycuda.driver", fake.module)
    return fake


@pytest.fixture
def thread(driver: FakeDriver) -> EngineThread:
    return EngineThread(partial(PycudaMemory, GPU, driver=object()))


def uses() -> set[str]:
    """Every name of pycuda's in the module, as `X` or `Class.member`."""
    found = set()
    for node in ast.walk(ast.parse(SOURCE.read_text())):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if owner in ("cuda", "self._cuda"):
                found.add(node.attr)
            elif owner in ("cuda.Context", "self._cuda.Context", "cuda.Device(0)"):
                found.add(f"{owner.partition('cuda.')[2].partition('(')[0]}.{node.attr}")
            elif owner in OBJECTS:
                found.add(f"{OBJECTS[owner]}.{node.attr}")
    return found


def test_every_name_that_is_used_is_one_of_pycudas() -> None:
    found = uses()
    assert {"mem_alloc", "Stream.handle", "Memcpy2D.src_pitch", "Device.retain_primary_context", "Context.pop"} <= found
    for name in found:
        owner, _, member = name.partition(".")
        assert owner in SURFACE, name
        assert not member or member in SURFACE[owner], name
    assert {"free"} <= set(SURFACE["PagelockedHostAllocation"]) & set(SURFACE["DeviceAllocation"])


def test_bytes_go_to_the_device_and_come_back(thread: EngineThread) -> None:
    memory = thread.memory

    def there_and_back() -> list[int]:
        staging, address = memory.pinned(8), memory.allocate(64)
        memory.zero(address, 64)
        staging[:] = range(8)
        memory.to_device(address, staging)
        lines = LineCopy(
            source=address,
            source_pitch_bytes=4,
            target=address + 16,
            target_pitch_bytes=8,
            line_bytes=3,
            lines=2,
        )
        memory.copy_lines(lines)
        result = memory.pinned(16)
        memory.to_host(result, address + 16)
        memory.synchronise()
        return list(result)

    assert thread(there_and_back) == [0, 1, 2, 0, 0, 0, 0, 0, 4, 5, 6, 0, 0, 0, 0, 0]


def test_a_timer_gives_nanoseconds(thread: EngineThread) -> None:
    def timed() -> int:
        timer = thread.memory.timer()
        timer.start()
        timer.stop()
        thread.memory.synchronise()
        return timer.elapsed_ns()

    assert thread(timed) == 2_500_000


def test_the_stream_does_not_wait_for_other_work_of_the_process(thread: EngineThread) -> None:
    assert thread.memory._stream.flags == 1
    assert thread(lambda: thread.memory.stream) == 77


def test_the_context_is_on_the_stack_of_its_thread_only_while_something_runs(
    driver: FakeDriver, thread: EngineThread
) -> None:
    assert thread(lambda: len(driver.stack)) == 1
    assert [stack for stack in driver.stacks.values() if stack] == []


def test_nothing_is_left_when_the_thread_has_ended(driver: FakeDriver) -> None:
    thread = EngineThread(partial(PycudaMemory, GPU, driver=object()))
    memory = thread.memory
    timers = [thread(memory.timer) for _ in range(2)]
    thread(lambda: (memory.allocate(100), memory.allocate(200), memory.pinned(10), None)[-1])
    assert driver.live == {"context": 1, "stream": 1, "event": 4, "memory": 2, "pinned": 1}
    del thread
    assert set(driver.live.values()) == {0}
    assert len(timers) == 2  # they are still referred to, and have let go of what they were


def test_what_a_failed_device_has_is_given_back_without_a_word(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def failing(stream: object) -> None:
        raise driver.module.Error("cuStreamSynchronize failed: an illegal memory access was encountered")

    thread = EngineThread(partial(PycudaMemory, GPU, driver=object()))
    memory = thread.memory
    thread(partial(memory.allocate, 100))
    monkeypatch.setattr(type(memory._stream), "synchronize", failing)
    with pytest.raises(SessionError, match="the GPU failed: cuStreamSynchronize failed"):
        thread(memory.synchronise)
    del thread
    assert set(driver.live.values()) == {0}
    assert capfd.readouterr() == ("", "")


def test_too_much_memory_is_refused_with_both_numbers(thread: EngineThread) -> None:
    with pytest.raises(DeviceError, match=r"Stand-in refuses 3\.00 GB; 0\.00 GB are free") as caught:
        thread(lambda: thread.memory.allocate(3_000_000_000))
    assert "--max-context" in str(caught.value.remedy)


def test_a_gpu_in_the_machines_memory_counts_what_the_machine_could_make_free(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pycuda_memory, "available_memory", lambda: pycuda_memory_limit(5 << 30))
    jetson = EngineThread(partial(PycudaMemory, replace(GPU, integrated=True), driver=object()))
    card = EngineThread(partial(PycudaMemory, GPU, driver=object()))
    assert jetson(jetson.memory.free_bytes) == 5 << 30
    assert card(card.memory.free_bytes) == driver.free_bytes


def test_pycudas_errors_are_session_errors(thread: EngineThread, driver: FakeDriver) -> None:
    def failing() -> None:
        raise driver.module.Error("cuStreamSynchronize failed: an illegal memory access was encountered")

    with pytest.raises(SessionError, match="the GPU failed: cuStreamSynchronize failed"):
        thread(failing)


def test_a_missing_pycuda_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "modules", {name: module for name, module in sys.modules.items() if "pycuda" not in name})
    with pytest.raises(MissingExtraError, match="needs the 'cuda' extra .pycuda") as caught:
        load_pycuda()
    assert "pip install 'phiedge[cuda]'; pip builds it from source" in str(caught.value.remedy)


def test_a_pycuda_without_its_driver_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise ImportError("libcuda.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(pycuda_memory, "import_module", refuse)
    with pytest.raises(SessionError, match=r"pycuda is installed and cannot be loaded: libcuda\.so\.1") as caught:
        load_pycuda()
    assert "driver" in str(caught.value.remedy)


def pycuda_memory_limit(size_bytes: int) -> Any:
    from phiedge.devices.memory_limits import MemoryLimit

    return MemoryLimit(bytes=size_bytes, by="the machine")


def test_pinned_memory_begins_as_zeros(thread: EngineThread) -> None:
    assert not np.any(thread(lambda: thread.memory.pinned(32)))
