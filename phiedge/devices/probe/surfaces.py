"""Where a probe looks: the files of a system, and what its programs say.

On the machine at hand programs are run, none of them with more rights than the caller's, each for a few seconds at
most. In a recorded tree (`--sysroot`) nothing is run: what a program said is the file `commands/<name>.txt` there.
"""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from phiedge.devices.system_files import MOST_BYTES, SystemFiles

_GPU_FIELDS = (
    "index,name,compute_cap,memory.total,memory.used,driver_version,temperature.gpu,utilization.gpu,clocks.sm,"
    "clocks.max.sm,clocks.mem,clocks.max.mem,power.draw,power.limit,persistence_mode,mig.mode.current,"
    "clocks_throttle_reasons.active"
)

# Name of the recording -> what is run. tegrastats never ends by itself: its first lines are what is wanted.
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "nvpmodel": ("nvpmodel", "-q"),
    "l4t-package": ("dpkg-query", "-W", "nvidia-l4t-core"),
    "tegrastats": ("tegrastats", "--interval", "500"),
    "nvidia-smi-gpus": ("nvidia-smi", f"--query-gpu={_GPU_FIELDS}", "--format=csv"),
    "nvidia-smi-apps": ("nvidia-smi", "--query-compute-apps=pid,process_name,used_memory", "--format=csv"),
}
_SECONDS = {"tegrastats": 1.2}
_MOST_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a program said on stdout; `failed` if it is there but ended with an error."""

    text: str
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Surfaces:
    """The files and programs of one system; `live` if it is the machine at hand."""

    files: SystemFiles

    @property
    def live(self) -> bool:
        return self.files.root == Path("/")

    def said(self, name: str) -> Said | None:
        """What the program of that recording says; None where there is no such program or recording."""
        if self.live:
            return _run(COMMANDS[name], _SECONDS.get(name, _MOST_SECONDS))
        text = self.files.text(f"/commands/{name}.txt")
        return None if text is None else Said(text=text, failed=False)


def surfaces_of(sysroot: Path | None) -> Surfaces:
    """Those of this machine, or of the tree recorded in `sysroot`."""
    return Surfaces(files=SystemFiles(root=Path("/") if sysroot is None else sysroot.resolve()))


def _run(words: tuple[str, ...], seconds: float) -> Said | None:
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as late:
        return Said(text=_text(late.stdout), failed=not late.stdout)
    except OSError:  # it is not installed, or may not be run
        return None
    return Said(text=_text(done.stdout), failed=done.returncode != 0)


def _text(output: bytes | None) -> str:
    return (output or b"")[:MOST_BYTES].decode("utf-8", errors="replace").strip()
