"""Which TensorRT-LLM is installed, and how it takes a model.

Up to 1.2 it builds engines from a checkpoint of its own (`trtllm-build`). That backend was removed in the middle of
2026; 1.3.0rc20 was its last release candidate, and from 1.3 on phiedge uses the PyTorch backend, which loads a
checkpoint of ModelOpt's format as it is.
"""

import re
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, TypeAlias

from phiedge.errors import DeviceError

BACKEND = "tensorrt-llm"
BUILD_TOOL = "trtllm-build"
OLDEST = (0, 12)  # whose checkpoints are of this form; also the branch for Jetson Orin
FIRST_WITHOUT_ENGINES = (1, 3)
_PACKAGE = "tensorrt-llm"

Way: TypeAlias = Literal["engine", "load"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A TensorRT-LLM that is here: its version, its way, and its tool where it has one."""

    version: str
    way: Way
    tool: Path | None


def find_installation() -> Installation | None:
    """The TensorRT-LLM of this Python, or None. Raises `DeviceError` for one that phiedge cannot use."""
    found = _installed()
    if found is None:
        return None
    parsed = _parsed(found)
    if parsed < OLDEST:
        raise DeviceError(
            f"TensorRT-LLM {found} is too old: phiedge writes for {'.'.join(map(str, OLDEST))} and later",
            remedy="install TensorRT-LLM 1.2.1, or a version with the PyTorch backend",
        )
    if parsed >= FIRST_WITHOUT_ENGINES:
        return Installation(version=found, way="load", tool=None)
    tool = shutil.which(BUILD_TOOL)
    if tool is None:
        raise DeviceError(
            f"TensorRT-LLM {found} is installed, its tool {BUILD_TOOL} is not on the path",
            remedy="activate the environment that TensorRT-LLM was installed in",
        )
    return Installation(version=found, way="engine", tool=Path(tool))


def _installed() -> str | None:
    try:
        return version(_PACKAGE)
    except PackageNotFoundError:
        return None


def _parsed(told: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", told)
    if match is None:
        raise DeviceError(f"TensorRT-LLM says that it is version {told!r}", remedy="install a release of TensorRT-LLM")
    return int(match[1]), int(match[2])
