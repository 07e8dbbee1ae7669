"""Starting the process that builds an engine, and hearing from it.

It never outlives the call: an error, Ctrl-C and the end of this process all end it at once.
"""

import os
import signal
import subprocess
import sys
import tempfile
from typing import IO, NoReturn

from phiedge.bundle.record import decode
from phiedge.engines.tensorrt.request import BuildAnswer, BuildRequest, read_event
from phiedge.errors import BundleError, DeviceError, PhiEdgeError, SessionError, UsageError
from phiedge.progress import Progress, silent

WORKER = "phiedge.engines.tensorrt.worker"
_PERCENT, _PERMILLE = 100, 1000
_ERRORS: dict[str, type[PhiEdgeError]] = {
    error.__name__: error for error in (BundleError, DeviceError, SessionError, UsageError)
}


def build_in_process(request: BuildRequest, progress: Progress = silent) -> BuildAnswer:
    """Have `request` built by a process of its own.

    Raises what the worker raises (`BundleError`, `DeviceError`, `SessionError`), and `DeviceError` where the system
    ends it.
    """
    # As `-m` would start it, but for the working directory: what lies there is not ours to import.
    program = f"import sys; sys.path[:] = {sys.path!r}; import runpy; runpy.run_module({WORKER!r}, run_name='__main__')"
    command = [sys.executable, "-c", program, str(os.getpid())]
    with (
        tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace") as told,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told, text=True) as process,
    ):
        try:
            answer = _follow(process, request, progress)
        finally:
            process.kill()
        return answer if answer is not None else _ended(process.wait(), request, told)


def _follow(process: "subprocess.Popen[str]", request: BuildRequest, progress: Progress) -> BuildAnswer | None:
    """Hand over the request and read events until there are no more; None where there was no answer."""
    assert process.stdin is not None, "it is a pipe"
    assert process.stdout is not None, "it is a pipe"
    answer = None
    with progress.task(f"build {request.part}", _PERCENT, "%") as advance:
        try:
            process.stdin.write(request.to_json())
            process.stdin.close()
        except BrokenPipeError:
            return None  # it has ended already; its standard error says why
        shown = 0
        for line in process.stdout:
            kind, told = read_event(line)
            if kind == "progress":
                percent = told * _PERCENT // _PERMILLE
                advance(percent - shown)
                shown = percent
            elif kind == "error":
                raise _ERRORS.get(told["type"], BundleError)(told["message"], remedy=told["remedy"])
            else:
                answer = decode(BuildAnswer, told, "the worker's answer")
        advance(_PERCENT - shown)
    process.wait()
    return answer


def _ended(code: int, request: BuildRequest, told: IO[str]) -> NoReturn:
    """Say how a process ended that did not answer."""
    if code < 0:
        raise DeviceError(
            f"the process that built the {request.part} engine was ended by {signal.Signals(-code).name}",
            remedy="if nobody did that, memory ran out: free some, or build on a larger machine and copy the bundle",
        )
    told.seek(0)
    last = next((line.strip() for line in reversed(told.readlines()) if line.strip()), "it said nothing")
    raise SessionError(
        f"the process that built the {request.part} engine ended with code {code}: {last}",
        remedy="report this with the version of TensorRT",
    )
