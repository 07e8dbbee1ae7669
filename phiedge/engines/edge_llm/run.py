"""The exporter as a process: on the processor alone, told about as it goes, and ended when this process ends.

It writes into a directory that has no name yet, so that a run that was killed leaves nothing that could be taken for an
export. What it said is kept beside what it wrote (`LOG`).
"""

import os
import signal
import subprocess
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phiedge.engines.edge_llm.messages import ExporterSaid
from phiedge.engines.edge_llm.tool import Exporter, clean_environment
from phiedge.engines.edge_llm.versions import PACKAGE, VERSION
from phiedge.errors import ToolError, ToolOutputError
from phiedge.progress import Progress, silent

LOG = "exporter.log"
MODEL = Path("llm", "model.onnx")
WRITTEN = (MODEL, Path("llm", "model.onnx.data"), Path("llm", "config.json"), Path("llm", "embedding.safetensors"))
# It shall not outlive this process: the kernel ends it with its parent (prctl, PR_SET_PDEATHSIG = 1).
_PROGRAM = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv.pop(1)):
    sys.exit("the process that wanted this has ended")
sys.argv[0] = "tensorrt-edgellm-export"
from tensorrt_edgellm.scripts.export import main
sys.exit(main())
"""
# What it says at the end of each part of its work.
_STEPS = (
    "tensors, skipped",
    "torch.export.export(..., strict=False)`... \u2705",
    "Run decompositions... \u2705",
    "Translate the graph into ONNX... \u2705",
    "Optimize the ONNX graph... \u2705",
    "Export complete:",
)
_NO_SPACE = ("No space left on device", "Disk quota exceeded")


def run_exporter(
    exporter: Exporter, checkpoint: Path, out: Path, *, layers: int | None = None, progress: Progress = silent
) -> ExporterSaid:
    """Export `checkpoint` into `out`, of which the first `layers` layers if that is given, and return what it said.

    Raises `ToolError` where it failed or was ended, `ToolOutputError` where it reported success without its files.
    """
    checkpoint, out = checkpoint.absolute(), out.absolute()  # the process runs in `out`
    options = [] if layers is None else ["--num-decoder-layer", str(layers)]
    command = [str(exporter.python), "-c", _PROGRAM, str(os.getpid()), str(checkpoint), str(out), *options]
    out.mkdir(parents=True, exist_ok=True)
    with _running(command, out) as process:
        lines = list(_followed(process, progress))
        code = process.wait()
    (out / LOG).write_text("".join(lines), encoding="utf-8")
    if code:
        raise _failed(code, lines, out)
    for name in WRITTEN:
        if not (out / name).is_file() or (out / name).stat().st_size == 0:
            raise ToolOutputError(
                f"{PACKAGE} {VERSION} reported success and wrote no {name}; {_last(lines)}",
                remedy="run it again; report this with what it said if it stays",
            )
    return ExporterSaid.of(lines)


@contextmanager
def _running(command: list[str], out: Path) -> Iterator["subprocess.Popen[str]"]:
    """The process, in a group of its own that is ended in any case."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=out,
        env=clean_environment(),
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _followed(process: "subprocess.Popen[str]", progress: Progress) -> Iterator[str]:
    assert process.stdout is not None, "it is a pipe"
    waiting = deque(_STEPS)
    with progress.task(f"export with {PACKAGE}", len(_STEPS), "steps") as advance:
        for line in process.stdout:
            if waiting and waiting[0] in line:
                waiting.popleft()
                advance(1)
            yield line


def _failed(code: int, lines: list[str], out: Path) -> ToolError:
    if code < 0:
        return ToolError(
            f"{PACKAGE} {VERSION} was ended by {signal.Signals(-code).name}",
            remedy="if nobody did that, memory ran out: free some, or build on a larger machine and copy the bundle",
        )
    if any(told in line for line in lines[-50:] for told in _NO_SPACE):
        return ToolError(
            f"{PACKAGE} {VERSION} found no space left on the disk of {out.parent}",
            remedy="free some space, or copy the bundle to a larger disk; nothing was left behind",
        )
    return ToolError(
        f"{PACKAGE} {VERSION} ended with code {code}: {_last(lines)}", remedy="report this, with its words"
    )


def _last(lines: list[str]) -> str:
    return "it said: " + next((line.strip()[:300] for line in reversed(lines) if line.strip()), "nothing")
