"""The one thread that everything of an open engine goes through, and on which it is freed.

A CUDA context belongs to a thread, and pycuda frees what belongs to it on that thread alone. Requests come from any
thread, so they hand their work to this one and wait. Where nobody refers to it any more, or the process ends, the
thread frees what it was given to hold, newest first, and ends; whoever let go of it waits for that, so memory of the
device is free once a session is closed.
"""

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from queue import SimpleQueue
from typing import TypeAlias, TypeVar

from phiedge.engines.tensorrt.device_memory import DeviceMemory
from phiedge.errors import SessionError

Given = TypeVar("Given")
Job: TypeAlias = Callable[[], None]

_REMEDY = "open the session again; if that fails, too, see what nvidia-smi says of the GPU"


class EngineThread:
    """Runs what it is given, one after the other, with its GPU current; `memory` is opened there, and closed last."""

    def __init__(self, open_memory: Callable[[], DeviceMemory]) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._held = ExitStack()
        # A daemon, as Python would wait for another kind before it lets anybody end it.
        worker = threading.Thread(target=_serve, args=(self._jobs,), name="phiedge-tensorrt", daemon=True)
        worker.start()
        weakref.finalize(self, _end, self._jobs, self._held, worker)
        self.memory = self._given(open_memory)
        self._held.callback(self.memory.close)

    def __call__(self, work: Callable[[], Given]) -> Given:
        """What `work()` returns; raises what it raises, and `SessionError` for what the device's library says.

        Where the wait is interrupted (Ctrl-C), the work goes on, and whatever comes next waits for its end.
        """
        try:
            return self._given(work, self.memory)
        except self.memory.errors as error:
            told = str(error).strip().partition("\n")[0] or type(error).__name__
            raise SessionError(f"the GPU failed: {told}", remedy=_REMEDY) from error

    def hold(self, free: Callable[[], None]) -> None:
        """Call `free` before anything is freed that was there before it, with the GPU current."""
        memory = self.memory

        def freeing() -> None:
            with memory.current():
                free()

        self._held.callback(freeing)

    def _given(self, work: Callable[[], Given], memory: DeviceMemory | None = None) -> Given:
        future: Future[Given] = Future()
        self._jobs.put(partial(_fulfil, future, work, memory))
        try:
            return future.result()
        finally:
            del future  # an exception refers to this frame, which would keep the exception, and its engine, alive


def _fulfil(future: "Future[Given]", work: Callable[[], Given], memory: DeviceMemory | None) -> None:
    try:
        if memory is None:
            future.set_result(work())
            return
        with memory.current():
            given = work()
        future.set_result(given)
    except BaseException as error:  # whatever it is, it belongs to the one who waits
        future.set_exception(error)
        del future, work  # as above


def _serve(jobs: "SimpleQueue[Job | None]") -> None:
    """Run jobs until None comes. A job is let go of before the next is waited for, as it keeps its engine alive."""
    while (job := jobs.get()) is not None:
        job()
        del job


def _end(jobs: "SimpleQueue[Job | None]", held: ExitStack, worker: threading.Thread) -> None:
    jobs.put(held.close)
    jobs.put(None)
    if worker is not threading.current_thread():
        worker.join()
