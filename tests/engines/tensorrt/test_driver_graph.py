"""Recording through the driver, over a driver that answers what it is told to."""

import ctypes
from typing import Any

import pytest

from phiedge.engines.tensorrt.device_memory import NotRecordedError
from phiedge.engines.tensorrt.driver_graph import DriverGraph
from phiedge.errors import SessionError

STREAM, GRAPH, EXECUTABLE = 0x77, 0x99, 0xAA


class Driver:
    """The calls of the driver, in order; `refusing` maps a call to what it answers."""

    def __init__(self, **refusing: int) -> None:
        self.calls: list[str] = []
        self._refusing = refusing

    def __getattr__(self, name: str) -> Any:
        return lambda *operands: self._answer(name, operands)

    def cuGetErrorName(self, code: ctypes.c_int, name: Any) -> int:  # noqa: N802
        name._obj.value = b"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
        return 0

    def _answer(self, name: str, operands: tuple[Any, ...]) -> int:
        values = [getattr(getattr(operand, "_obj", operand), "value", None) for operand in operands]
        self.calls.append(f"{name} {values}")
        if name == "cuStreamEndCapture":
            operands[1]._obj.value = GRAPH
        if name == "cuGraphInstantiateWithFlags" and name not in self._refusing:
            operands[0]._obj.value = EXECUTABLE
        return self._refusing.get(name, 0)


def names(driver: Driver) -> list[str]:
    return [call.partition(" ")[0] for call in driver.calls]


def test_what_is_enqueued_is_captured_for_this_thread_and_launched_on_its_stream() -> None:
    driver = Driver()
    graph = DriverGraph(driver, STREAM, lambda: driver.calls.append("enqueued"))
    graph.launch()
    assert driver.calls == [
        f"cuStreamBeginCapture_v2 {[STREAM, 1]}",
        "enqueued",
        f"cuStreamEndCapture {[STREAM, None]}",
        f"cuGraphInstantiateWithFlags {[None, GRAPH, 0]}",
        f"cuGraphLaunch {[EXECUTABLE, STREAM]}",
    ]


def test_closing_frees_both_and_only_once() -> None:
    driver = Driver()
    graph = DriverGraph(driver, STREAM, lambda: None)
    driver.calls.clear()
    graph.close()
    graph.close()
    assert driver.calls == [f"cuGraphExecDestroy {[EXECUTABLE]}", f"cuGraphDestroy {[GRAPH]}"]


@pytest.mark.parametrize("call", ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"])
def test_what_the_driver_refuses_is_not_recorded_and_leaves_nothing(call: str) -> None:
    driver = Driver(**{call: 901})
    with pytest.raises(NotRecordedError, match=f"{call} answered CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"):
        DriverGraph(driver, STREAM, lambda: None)
    assert ("cuGraphDestroy" in names(driver)) == (call != "cuStreamBeginCapture_v2")


def test_a_run_that_fails_while_it_is_captured_ends_the_capture() -> None:
    driver = Driver()

    def failing() -> None:
        raise SessionError("decoder.engine does not run: not permitted when stream is capturing")

    with pytest.raises(NotRecordedError, match="not permitted when stream is capturing"):
        DriverGraph(driver, STREAM, failing)
    assert names(driver) == ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphDestroy"]


def test_a_replay_that_fails_is_a_session_error() -> None:
    driver = Driver(cuGraphLaunch=700)
    graph = DriverGraph(driver, STREAM, lambda: None)
    with pytest.raises(SessionError, match="cuGraphLaunch answered CUDA_ERROR"):
        graph.launch()
