"""What TensorRT calls while it builds: where its messages go, and who hears how far it is.

Both are classes of TensorRT's own to derive from, and so can only be made once it is imported.
"""

from collections.abc import Callable
from typing import Any

from phiedge.engines.tensorrt.build_log import tells_of_layers
from phiedge.engines.tensorrt.build_progress import BuildProgress


def build_logger(trt: Any) -> Any:
    """A logger with what the builder tells of layers as `layers`, and its errors as `errors`, lists of lines."""
    bad = (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR)

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.layers: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.layers += (line for line in message.split("\n") if tells_of_layers(line))
            if severity in bad:
                self.errors.append(message)

    return Logger()


def build_monitor(trt: Any, tell: Callable[[float], None]) -> Any:
    """A progress monitor that calls `tell` with the share of the build that is done."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._progress = BuildProgress()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._progress.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._progress.step(phase_name)
            tell(self._progress.share)
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._progress.finish(phase_name)

    return Monitor()
