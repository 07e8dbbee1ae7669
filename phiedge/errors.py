"""Every error that phiedge raises on purpose, as one tree; each says what went wrong and what to do about it.

    PhiEdgeError                    exit code 1
     ├─ UsageError                  exit code 2: an option or a name that does not exist or does not combine
     │   └─ UnknownDeviceError
     ├─ MissingExtraError           a part of phiedge that is not installed; names the pip line
     ├─ CheckpointError             the checkpoint is not what the architecture needs
     │   ├─ ConfigError
     │   └─ TensorError             names the tensor
     ├─ ExportError                 the graphs or weights could not be made
     │   └─ FormatError             a checkpoint for another engine that would not be what the bundle is
     ├─ BundleError                 a bundle could not be read or written
     │   ├─ SchemaError             written by another version of phiedge
     │   └─ IntegrityError          its files are not the files that were written
     ├─ InputError                  a request that cannot be answered as it stands
     │   ├─ ImageError
     │   ├─ PromptError
     │   └─ ContextLengthError
     ├─ BudgetError                 a latency budget that cannot be met
     ├─ SessionError
     │   ├─ SessionBusyError
     │   └─ SessionClosedError
     ├─ ToolError                   a program of others that a build needs: missing, another release, or it failed
     │   └─ ToolOutputError         it reported success, and what it wrote is not the model
     └─ DeviceError                 the device lacks what was asked of it

What is not here is a defect of phiedge or a fault of the machine: `AssertionError`, `OSError`. Nothing here is ever
raised for control flow.
"""

import difflib
from collections.abc import Iterable


class PhiEdgeError(Exception):
    """What went wrong (`message`) and what to do about it (`remedy`); the base of every error raised on purpose."""

    exit_code: int = 1

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return self.message if self.remedy is None else f"{self.message}\nremedy: {self.remedy}"


class UsageError(PhiEdgeError):
    """An option or a name that does not exist, or options that do not combine."""

    exit_code = 2


class UnknownDeviceError(UsageError):
    """A device that the catalogue does not have; never replaced by a default."""


class MissingExtraError(PhiEdgeError):
    """A part of phiedge that was not installed; `otherwise` says where else it may come from."""

    def __init__(self, *, what: str, extra: str, missing: str | None = None, otherwise: str | None = None) -> None:
        lacking = f" ({missing} is not installed)" if missing else ""
        remedy = "; ".join(filter(None, [f"pip install 'phiedge[{extra}]'", otherwise]))
        super().__init__(f"{what} needs the '{extra}' extra{lacking}", remedy=remedy)
        self.extra = extra


class CheckpointError(PhiEdgeError):
    """A checkpoint that is not one, or not of this architecture."""


class ConfigError(CheckpointError):
    """A configuration key or value that the architecture does not have or support."""


class TensorError(CheckpointError):
    """A tensor that is missing, extra, misshapen or not finite; `tensor` is its name."""

    def __init__(self, message: str, *, tensor: str, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.tensor = tensor


class ExportError(PhiEdgeError):
    """Graphs or weights that could not be made."""


class FormatError(ExportError):
    """A checkpoint for another engine that could not be written, or whose reader would corrupt it."""


class BundleError(PhiEdgeError):
    """A bundle that could not be read or written."""


class SchemaError(BundleError):
    """A manifest of a schema that this version does not read."""


class IntegrityError(BundleError):
    """Files that are not the files that were written."""


class InputError(PhiEdgeError):
    """A request that cannot be answered as it stands."""


class ImageError(InputError):
    """A picture that cannot be read or is not a picture."""


class PromptError(InputError):
    """A prompt that cannot be rendered or does not go with its pictures."""


class ContextLengthError(InputError):
    """A prompt with its pictures and answer that does not fit into the context."""


class BudgetError(PhiEdgeError):
    """A latency budget that cannot be met."""


class SessionError(PhiEdgeError):
    """A session that is not in the state which the call needs."""


def out_of_memory(what: str, told: str = "") -> SessionError:
    """The error of a machine that has no memory left for `what`; `told` is what the allocator said."""
    return SessionError(
        f"there is no memory left for {what}" + (f": {told}" if told else ""),
        remedy="end what else takes memory, or ask for less: smaller pictures (max_visual_tokens), a shorter prompt; "
        "the session can be used again",
    )


class SessionBusyError(SessionError):
    """A second request while the session answers another one."""


class SessionClosedError(SessionError):
    """A request to a session that was closed or never opened."""


class ToolError(PhiEdgeError):
    """A program of others that a build needs, which is missing, of another release, or has failed."""


class ToolOutputError(ToolError):
    """Such a program reported success, and what it wrote is missing, incomplete, or not the model."""


class DeviceError(PhiEdgeError):
    """A device that lacks what was asked of it."""


def nearest(name: str, known: Iterable[str], *, count: int = 3) -> list[str]:
    """The `known` names most like `name`, best first; the part of a remedy that says "did you mean"."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=count, cutoff=0.5)
    return [by_folded[folded] for folded in close]
