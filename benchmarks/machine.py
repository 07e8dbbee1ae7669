"""What a benchmark ran on: enough to judge a figure later, and nothing that identifies the machine."""

import os
import platform
from importlib import metadata
from pathlib import Path

_PACKAGES = ("phiedge", "numpy", "onnxruntime", "torch", "onnx", "onnxscript")
_INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm", "sve")


def facts() -> dict[str, object]:
    """The processor, what of it is usable, the memory, the versions, and how busy the machine was at this moment."""
    fields = _cpu_fields()
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "instruction_sets": [name for name in _INSTRUCTION_SETS if name in fields.get("flags", "").split()],
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "load_average_1m": round(os.getloadavg()[0], 2),
    }


def peak_rss_bytes() -> int:
    """The most memory that this process has had resident. (`getrusage` would count what its parent had, too.)"""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _cpu_fields() -> dict[str, str]:
    """The first processor's lines in /proc/cpuinfo."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    block = path.read_text(encoding="utf-8").split("\n\n")[0]
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
