import subprocess
import sys
import threading
from pathlib import Path

import pytest

from phiedge.engines.tensorrt.engine_thread import EngineThread
from phiedge.errors import SessionError
from recorded_device import DeviceFailure, RecordedMemory

SUPPORT = Path(__file__).parents[2] / "support"


@pytest.fixture
def thread() -> EngineThread:
    return EngineThread(RecordedMemory)


def test_work_of_any_thread_runs_on_one_and_its_result_comes_back(thread: EngineThread) -> None:
    assert thread(lambda: threading.current_thread().name) == "phiedge-tensorrt"
    assert thread(threading.get_ident) != threading.get_ident()


def test_what_work_raises_is_raised_to_the_one_who_waits(thread: EngineThread) -> None:
    with pytest.raises(ZeroDivisionError):
        thread(lambda: 1 // 0)
    assert thread(lambda: 1) == 1


def test_the_gpu_is_current_while_work_runs_and_not_between(thread: EngineThread) -> None:
    assert thread(thread.memory.free_bytes) > 0  # refused where nothing is current
    assert thread.memory._depth == 0


def test_what_the_device_says_is_a_session_error_with_a_remedy(thread: EngineThread) -> None:
    def failing() -> None:
        raise DeviceFailure("cuCtxSynchronize failed: unspecified launch failure\nmore")

    with pytest.raises(SessionError, match="the GPU failed: cuCtxSynchronize failed: unspecified launch") as caught:
        thread(failing)
    assert "nvidia-smi" in str(caught.value.remedy)


def test_what_is_held_is_freed_newest_first_and_memory_last() -> None:
    thread = EngineThread(RecordedMemory)
    memory, freed = thread.memory, []
    for name in ("engine", "context"):
        thread.hold(lambda name=name: freed.append((name, memory.closed, memory.free_bytes() > 0)))
    del thread
    assert freed == [("context", False, True), ("engine", False, True)]
    assert memory.closed


def test_a_thread_whose_memory_cannot_be_opened_ends() -> None:
    def refused() -> RecordedMemory:
        raise SessionError("no GPU")

    before = threading.active_count()
    with pytest.raises(SessionError, match="no GPU"):
        EngineThread(refused)
    assert threading.active_count() == before


def test_an_engine_that_is_dropped_on_its_own_thread_does_not_wait_for_itself() -> None:
    holder = [EngineThread(RecordedMemory)]
    memory, worker = holder[0].memory, holder[0](threading.current_thread)
    holder[0]._jobs.put(holder.clear)
    worker.join(timeout=20)
    assert memory.closed


def test_a_process_that_ends_without_closing_frees_its_memory() -> None:
    code = (
        "import atexit\n"
        "from phiedge.engines.tensorrt.engine_thread import EngineThread\n"
        "from recorded_device import RecordedMemory\n"
        "atexit.register(lambda: print('closed', memory.closed))\n"
        "thread = EngineThread(RecordedMemory)\n"
        "memory = thread.memory\n"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(SUPPORT)!r})\n{code}"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (finished.stdout, finished.stderr) == ("closed True\n", "")
