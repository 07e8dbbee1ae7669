"""The process that builds one engine: `python -m phiedge.engines.tensorrt.worker PARENT`, its request on stdin.

A process of its own, because a build that fails can leave the library in a state in which the next one fails, too;
because all its memory goes back at once; and because only a signal stops a build that has begun. It ends with the
process PARENT that started it, whatever ended that one.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import TextIO

from phiedge.bundle.record import encode
from phiedge.engines.tensorrt.engine_build import build_engine
from phiedge.engines.tensorrt.request import BuildRequest, event
from phiedge.errors import PhiEdgeError

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> int:
    """Read a request, build, and answer; 0 if there is an engine."""
    _end_with(int(sys.argv[1]))
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # TensorRT comes back to Python too seldom to be interrupted there
    events = _own_stdout()
    request = BuildRequest.from_json(sys.stdin.read())
    try:
        answer = build_engine(request, _permille_to(events))
    except PhiEdgeError as error:
        return _failed(events, type(error).__name__, error.message, error.remedy)
    except OSError as error:
        told = f"the {request.part} engine could not be written: {error}"
        return _failed(events, "BundleError", told, "see that the disk has room and can be written to")
    print(event("answer", encode(answer)), file=events)
    return 0


def _failed(events: TextIO, kind: str, message: str, remedy: str | None) -> int:
    print(event("error", {"type": kind, "message": message, "remedy": remedy}), file=events)
    return 1


def _end_with(parent: int) -> None:
    """Be killed when the parent ends, even if it was killed itself; and now, if it has ended already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that asked for an engine has ended")


def _own_stdout() -> TextIO:
    """The real standard output, for events alone; whatever libraries print goes to the standard error."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return events


def _permille_to(events: TextIO) -> Callable[[float], None]:
    """Tells shares of the whole, each permille once."""
    told = 0

    def tell(share: float) -> None:
        nonlocal told
        permille = int(1000 * share)
        if permille > told:
            told = permille
            print(event("progress", permille), file=events)

    return tell


if __name__ == "__main__":
    sys.exit(main())
