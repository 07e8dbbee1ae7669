"""Recording what a stream is given as a CUDA graph, through the driver's own library.

pycuda has no calls for it, and TensorRT-RTX records by itself; this is for the full TensorRT. Capturing listens to one
thread only (`CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`): calls of other threads in the process do not spoil it.
"""

import ctypes
from collections.abc import Callable
from typing import Any

from phiedge.engines.tensorrt.device_memory import NotRecordedError
from phiedge.errors import SessionError

_THREAD_LOCAL = 1  # CUstreamCaptureMode
_NO_FLAGS = 0


class DriverGraph:
    """A recorded graph, launched on the stream that it was recorded on, until `close`."""

    def __init__(self, driver: Any, stream: int, enqueue: Callable[[], None]) -> None:
        """Record what `enqueue` does. Raises `NotRecordedError`, after which the stream is as it was."""
        self._driver, self._stream = driver, ctypes.c_void_p(stream)
        self._graph, self._executable = ctypes.c_void_p(), ctypes.c_void_p()
        self._must("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(_THREAD_LOCAL))
        try:
            enqueue()
        except SessionError as error:
            self._end_capture()
            self.close()
            raise NotRecordedError(error.message) from error
        refused = self._end_capture()
        if refused is not None:
            self.close()
            raise NotRecordedError(refused)
        try:
            self._must(
                "cuGraphInstantiateWithFlags",
                ctypes.byref(self._executable),
                self._graph,
                ctypes.c_ulonglong(_NO_FLAGS),
            )
        except NotRecordedError:
            self.close()
            raise

    def launch(self) -> None:
        """Enqueue the recorded work. Raises `SessionError` with the driver's own name for what is wrong."""
        refused = self._call("cuGraphLaunch", self._executable, self._stream)
        if refused is not None:
            raise SessionError(f"the GPU does not replay a decode step: {refused}", remedy="open the session again")

    def close(self) -> None:
        """Free what the driver holds of it; closing twice is fine."""
        executable, self._executable = self._executable, ctypes.c_void_p()
        graph, self._graph = self._graph, ctypes.c_void_p()
        if executable:
            self._call("cuGraphExecDestroy", executable)
        if graph:
            self._call("cuGraphDestroy", graph)

    def _end_capture(self) -> str | None:
        refused = self._call("cuStreamEndCapture", self._stream, ctypes.byref(self._graph))
        return refused or (None if self._graph else "cuStreamEndCapture gave no graph")

    def _must(self, call: str, *operands: object) -> None:
        refused = self._call(call, *operands)
        if refused is not None:
            raise NotRecordedError(refused)

    def _call(self, call: str, *operands: object) -> str | None:
        """What the driver says against a call, or None."""
        answer = getattr(self._driver, call)(*operands)
        if not answer:
            return None
        name = ctypes.c_char_p()
        known = self._driver.cuGetErrorName(ctypes.c_int(answer), ctypes.byref(name)) == 0 and name.value
        return f"{call} answered {name.value.decode() if known and name.value else answer}"
