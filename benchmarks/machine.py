"""What a benchmark ran on: enough to judge a figure later, and nothing that identifies the machine."""

import platform
from importlib import metadata

from phiedge.devices.host import host, process_memory
from phiedge.devices.processor import this_processor

_PACKAGES = ("phiedge", "numpy", "onnxruntime", "torch", "onnx", "onnxscript")


def facts() -> dict[str, object]:
    """The processor, what of it is usable, the memory, the versions, and how busy the machine was at this moment."""
    here = host()
    return {
        "cpu": here.cpu,
        "cores": here.cores,
        "instruction_sets": list(this_processor().instruction_sets),
        "memory_bytes": here.memory_bytes,
        "kernel": here.kernel,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "load_average_1m": here.load_average_1m,
    }


def peak_rss_bytes() -> int:
    """The most memory that this process has had resident. (`getrusage` would count what its parent had, too.)"""
    return process_memory().peak_bytes


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
