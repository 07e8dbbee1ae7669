"""What TensorRT measured of its kernels while it built, kept beside the engine for the next build on that GPU.

The full TensorRT tries kernels on the GPU and takes the fastest. On a Jetson that is most of an hour's work, and the
same measurements serve a second build. They mean nothing to another release or another GPU: TensorRT refuses them there
and begins from none, and so do we for what is damaged.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiedge.bundle import Bundle, hash_file
from phiedge.engines.engine_record import find_engine
from phiedge.engines.tensorrt.built import TIMING_CACHE
from phiedge.errors import BundleError


def take_over(bundle: Bundle, engine_name: str, into: Path, *, tools: Mapping[str, str]) -> bool:
    """Copy the measurements of the engine that is there to `into`, for the one that replaces it; whether there were.

    `tools` is what the new one is built by: measurements of another release are left where they are.
    """
    try:
        engine = find_engine(bundle, engine_name)
    except BundleError:  # it is being replaced
        return False
    if engine is None or engine.record.tools != tools or TIMING_CACHE not in engine.record.files:
        return False
    kept = engine.file(TIMING_CACHE)
    if hash_file(kept) != engine.record.files[TIMING_CACHE].sha256:
        return False
    shutil.copyfile(kept, into)
    return True


def begin(config: Any, path: Path) -> bool:
    """Let a build begin from the measurements in `path`, or from none; whether there were some that serve."""
    known = path.read_bytes() if path.exists() else b""
    cache = config.create_timing_cache(known)
    if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
        return bool(known)
    config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    return False


def keep(config: Any, path: Path) -> None:
    """Write what is known after a build."""
    path.write_bytes(config.get_timing_cache().serialize())
