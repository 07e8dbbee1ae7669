"""Where TensorRT's messages go while engines are opened and run: nowhere, but for errors, which errors quote."""

from collections import deque
from typing import Any

_KEPT = 3  # what went wrong comes first or last, and what is between repeats it


class EngineLog:
    """The last errors that the library told; `listener` is the object to hand to it."""

    def __init__(self, trt: Any) -> None:
        self._errors: deque[str] = deque(maxlen=_KEPT)
        severities = trt.ILogger.Severity
        self._bad = (severities.ERROR, severities.INTERNAL_ERROR)
        self.listener = _listener(trt, self)

    def take(self, severity: Any, message: str) -> None:
        """Keep the first line of an error."""
        if severity in self._bad:
            self._errors.append(message.strip().partition("\n")[0])

    def told(self) -> str:
        """What was told since the last call, in one line."""
        told = "; ".join(self._errors) or "it does not say why"
        self._errors.clear()
        return told


def _listener(trt: Any, log: EngineLog) -> Any:
    """An object of a class of the library's own, which it calls with every message; it knows the class by its base."""

    def __init__(self: Any) -> None:  # noqa: N807
        trt.ILogger.__init__(self)

    def take(_: Any, severity: Any, message: str) -> None:
        log.take(severity, message)

    return type("Listener", (trt.ILogger,), {"__init__": __init__, "log": take})()
