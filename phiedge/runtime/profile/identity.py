"""What a latency profile depends on: the machine, its power mode, the backend, the versions, the graphs.

A profile is used only where every one of these is as it was. What a system does not tell is "unknown", on both sides.
"""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from phiedge.bundle import Bundle, hash_file
from phiedge.devices.host import host
from phiedge.devices.probe.clocks import DEVFREQ, GPU_NAMES
from phiedge.devices.processor import this_processor
from phiedge.engines.engine_record import RECORD_NAME
from phiedge.engines.threads import default_threads
from phiedge.runtime.loaded_model import LoadedModel

UNKNOWN = "unknown"

_ROOT = Path("/")
_CPUFREQ = "sys/devices/system/cpu/cpu0/cpufreq"
# Linux for Tegra tells what board it is on, and nvpmodel which power mode it set last (pmode:0002).
_BOARD, _POWER_MODE = "proc/device-tree/model", "var/lib/nvpmodel/status"
_GPUS, _DRIVER = "proc/driver/nvidia/gpus", "proc/driver/nvidia/version"
_PACKAGES = {
    "onnxruntime": ("onnxruntime",),
    "onnxruntime-cuda": ("onnxruntime-gpu",),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt", "pycuda"),
    "tensorrt-rtx": ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "pycuda"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Names and values of all that a profile depends on, by kind."""

    backend: str
    machine: Mapping[str, str]
    settings: Mapping[str, str]
    versions: Mapping[str, str]
    graphs: Mapping[str, str]

    def differences(self, here: "Identity") -> list[str]:
        """What is otherwise `here`, as sentences with both sides."""
        told = [] if self.backend == here.backend else [f"backend {self.backend}, here {here.backend}"]
        for kind in ("machine", "settings", "versions", "graphs"):
            then, now = getattr(self, kind), getattr(here, kind)
            for name in sorted({*then, *now}):
                values = then.get(name, "nothing"), now.get(name, "nothing")
                if values[0] != values[1]:
                    told.append(f"{name} {values[0]}, here {values[1]}")
        return told


def identity_here(bundle: Bundle, model: LoadedModel, *, threads: int | None, root: Path = _ROOT) -> Identity:
    """The identity of a profile that would be measured now."""
    return Identity(
        backend=model.backend,
        machine=_machine(root),
        settings={
            "threads": str(default_threads() if threads is None else threads),
            "chunk tokens": str(model.chunk_tokens),
            "activations": model.activations,
        },
        versions=_versions(model.backend, root),
        graphs=_graphs(bundle, model.backend),
    )


def differences_here(identity: Identity, bundle: Bundle, *, root: Path = _ROOT) -> list[str]:
    """What is otherwise on this machine than when a profile was measured, as far as it can be told without opening the
    bundle: all but the settings of a session."""
    backend = identity.backend
    here = replace(identity, machine=_machine(root), versions=_versions(backend, root), graphs=_graphs(bundle, backend))
    return identity.differences(here)


def _graphs(bundle: Bundle, backend: str) -> dict[str, str]:
    """What computes: the bundle's graphs and weights, and the engines that were built of them for this backend."""
    listed = {
        name: entry.sha256[:12]
        for name, entry in bundle.manifest.files.items()
        if name.startswith(("vision.", "decoder."))
    }
    records = sorted((bundle.path / "engines").glob(f"{backend}-*/{RECORD_NAME}"))
    return listed | {f"engines/{path.parent.name}": hash_file(path)[:12] for path in records}


def _machine(root: Path) -> dict[str, str]:
    here, processor = host(), this_processor()
    gpus = sorted(_after(path, "Model:") for path in (root / _GPUS).glob("*/information"))
    return {
        "processor": here.cpu,
        "architecture": processor.architecture,
        "instruction sets": " ".join(processor.instruction_sets),
        "usable cores": str(here.cores),
        "memory GiB": str(round(here.memory_bytes / 2**30)),
        "board": _text(root / _BOARD),
        "GPUs": ", ".join(gpus) or UNKNOWN,
        "power mode": _text(root / _POWER_MODE),
        "clock governor": _text(root / _CPUFREQ / "scaling_governor"),
        "lowest clock kHz": _text(root / _CPUFREQ / "scaling_min_freq"),
        "highest clock kHz": _text(root / _CPUFREQ / "scaling_max_freq"),
        "GPU clocks": _gpu_clocks(root),
        "real-time policy": str(os.sched_getscheduler(0)) if hasattr(os, "sched_getscheduler") else UNKNOWN,
    }


def _gpu_clocks(root: Path) -> str:
    """The range of an integrated GPU's clock and what governs it; a card's is told to nobody but its own tools."""
    paths = [root / DEVFREQ[1:] / name for name in GPU_NAMES]
    told = [
        " ".join(_text(path / name) for name in ("min_freq", "max_freq", "governor")) for path in paths if path.is_dir()
    ]
    return ", ".join(told) or UNKNOWN


def _driver(root: Path) -> str:
    """NVRM's line with the version of the kernel module."""
    return next(iter(_text(root / _DRIVER).splitlines()), UNKNOWN)


def _versions(backend: str, root: Path) -> dict[str, str]:
    packages = ("phiedge", "numpy", "pillow", "tokenizers", *_PACKAGES.get(backend, ()))
    found = {name: _version(name) for name in packages}
    return {"python": platform.python_version(), "GPU driver": _driver(root), **found}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "nothing"


def _after(path: Path, label: str) -> str:
    for line in _text(path).splitlines():
        if line.startswith(label):
            return line[len(label) :].strip()
    return UNKNOWN


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip().strip("\0") or UNKNOWN
    except OSError:
        return UNKNOWN
