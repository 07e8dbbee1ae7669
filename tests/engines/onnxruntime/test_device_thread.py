import gc
import threading
import weakref

import pytest

from phiedge.engines.onnxruntime.device_thread import DeviceThread


def test_all_work_runs_on_one_thread_that_is_not_the_callers() -> None:
    thread = DeviceThread()
    assert {thread(threading.get_ident) for _ in range(3)} != {threading.get_ident()}
    assert len({thread(threading.get_ident) for _ in range(3)}) == 1


def test_an_error_comes_to_the_caller_and_the_thread_goes_on() -> None:
    thread = DeviceThread()
    with pytest.raises(ZeroDivisionError):
        thread(lambda: 1 // 0)
    assert thread(lambda: 7) == 7


def test_the_thread_ends_when_nobody_refers_to_it() -> None:
    thread = DeviceThread()
    worker = thread(threading.current_thread)
    gone = weakref.ref(thread)
    del thread
    gc.collect()
    worker.join(timeout=10)
    assert gone() is None
    assert not worker.is_alive()
