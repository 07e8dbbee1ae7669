"""phiedge: Phi-4-reasoning-vision on robots and kiosks, answering by a deadline.

The public names are the ones in `__all__`; everything else may move. Errors are imported at once, the rest when it is
first asked for, so that `import phiedge` costs milliseconds and pulls neither ONNX Runtime nor Pillow.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from phiedge.errors import (
    BudgetError,
    BundleError,
    CheckpointError,
    ConfigError,
    ContextLengthError,
    DeviceError,
    ExportError,
    FormatError,
    ImageError,
    InputError,
    IntegrityError,
    MissingExtraError,
    PhiEdgeError,
    PromptError,
    SchemaError,
    SessionBusyError,
    SessionClosedError,
    SessionError,
    TensorError,
    ToolError,
    ToolOutputError,
    UnknownDeviceError,
    UsageError,
)

if TYPE_CHECKING:
    from phiedge.bundle import Bundle
    from phiedge.runtime.budget import Budget
    from phiedge.runtime.camera import LatestFrame
    from phiedge.runtime.forms.form import BoxForm, ChoiceForm, JsonForm, PatternForm, PointForm
    from phiedge.runtime.remote.session import RemoteSession
    from phiedge.runtime.result import Event, Result
    from phiedge.runtime.session import Session

__version__ = "0.1.0"

__all__ = [
    "BoxForm",
    "Budget",
    "BudgetError",
    "Bundle",
    "BundleError",
    "CheckpointError",
    "ChoiceForm",
    "ConfigError",
    "ContextLengthError",
    "DeviceError",
    "Event",
    "ExportError",
    "FormatError",
    "ImageError",
    "InputError",
    "IntegrityError",
    "JsonForm",
    "LatestFrame",
    "MissingExtraError",
    "PatternForm",
    "PhiEdgeError",
    "PointForm",
    "PromptError",
    "RemoteSession",
    "Result",
    "SchemaError",
    "Session",
    "SessionBusyError",
    "SessionClosedError",
    "SessionError",
    "TensorError",
    "ToolError",
    "ToolOutputError",
    "UnknownDeviceError",
    "UsageError",
    "__version__",
]

# Where each public name that is not an error lives; imported on first use.
_HOMES = {
    "BoxForm": "phiedge.runtime.forms.form",
    "Budget": "phiedge.runtime.budget",
    "Bundle": "phiedge.bundle",
    "ChoiceForm": "phiedge.runtime.forms.form",
    "Event": "phiedge.runtime.result",
    "JsonForm": "phiedge.runtime.forms.form",
    "LatestFrame": "phiedge.runtime.camera",
    "PatternForm": "phiedge.runtime.forms.form",
    "PointForm": "phiedge.runtime.forms.form",
    "RemoteSession": "phiedge.runtime.remote.session",
    "Result": "phiedge.runtime.result",
    "Session": "phiedge.runtime.session",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'phiedge' has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
