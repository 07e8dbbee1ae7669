"""onnxruntime, imported so that it writes and sends nothing about this machine."""

import os

# When it is imported, before anyone can call `disable_telemetry_events`, ONNX Runtime writes an identity of this device
# and a database of events below the home directory, to be sent.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

__all__ = ["FATAL_ONLY", "ORT_ERRORS", "first_line", "ort"]

# ONNX Runtime's exceptions share no base class.
ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(kind for kind in vars(ort_state).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)
FATAL_ONLY = 4  # ONNX Runtime's log severity: errors come as exceptions, warnings about the machine are not for users

ort.disable_telemetry_events()  # also where another module imported it first


def first_line(error: BaseException) -> str:
    """The part of an error of ONNX Runtime's that is for people."""
    return str(error).strip().partition("\n")[0]
