"""openvino, imported so that it writes and sends nothing about this machine; or which extra to install."""

import sys
from typing import Any

from phiedge.errors import MissingExtraError

# When openvino is imported it writes an identity below the home directory and sends an event, unless the package that
# it does so with cannot be imported.
_TELEMETRY = "openvino_telemetry"
_modules: dict[str, Any] = sys.modules
_found = _modules.get(_TELEMETRY)
_modules[_TELEMETRY] = None
try:
    import openvino as ov
    from openvino import opset13 as op
    from openvino._offline_transformations import paged_attention_transformation as use_paged_attention
except ImportError as error:
    raise MissingExtraError(what="--backend openvino", extra="openvino", missing=error.name) from error
finally:
    if _found is None:
        del _modules[_TELEMETRY]
    else:
        _modules[_TELEMETRY] = _found

__all__ = ["OV_ERRORS", "first_line", "op", "ov", "use_paged_attention"]

# What OpenVINO raises: its own exceptions come as RuntimeError, a wrong argument as one of the others.
OV_ERRORS: tuple[type[Exception], ...] = (RuntimeError, TypeError, ValueError)


def first_line(error: BaseException) -> str:
    """The part of an error of OpenVINO's that is for people: the last line, below the places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
