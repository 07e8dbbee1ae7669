"""The one thread that everything on a device goes through.

ONNX Runtime's CUDA provider keeps a captured graph, and its library handles, per calling thread: a graph captured on
one thread is unknown to the next, which would run step by step and capture again in the middle of an answer. And while
a graph is being captured, a CUDA call of any other thread spoils it. Requests come from any thread, so they hand their
work to this one and wait.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")


class DeviceThread:
    """Runs what it is given, one after the other; it ends when nobody refers to it any more."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="phiedge-device")

    def __call__(self, work: Callable[[], Given]) -> Given:
        """What `work()` returns; raises what it raises.

        Where the wait is interrupted (Ctrl-C), the work goes on, and whatever comes next waits for its end.
        """
        return self._pool.submit(work).result()
