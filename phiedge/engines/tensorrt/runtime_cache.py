"""What TensorRT-RTX compiled for the GPU at hand, kept from one start to the next.

An engine built ahead of time has no machine code in it: kernels are compiled when it is first run, on the GPU that runs
it. What comes of that is a file of this machine, not of the bundle: below `$XDG_CACHE_HOME/phiedge/tensorrt-rtx`
(`~/.cache` where that is not set), named after everything that it depends on. It may be removed at any time. A file
that was cut or changed, or that TensorRT-RTX does not accept, is as none: the start is cold, and writes it anew.
"""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiedge.engines.tensorrt.driver import Gpu

_DIGEST_BYTES = hashlib.sha256().digest_size


def cache_directory(environment: Mapping[str, str] | None = None) -> Path:
    """Where files of this kind lie for the user at hand."""
    found = os.environ if environment is None else environment
    base = found.get("XDG_CACHE_HOME", "")
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return root / "phiedge" / "tensorrt-rtx"


class RuntimeCacheFile:
    """The file of one engine on one GPU under one release of TensorRT-RTX and one driver."""

    def __init__(self, directory: Path, *, engine_sha256: str, version: str, gpu: Gpu) -> None:
        key = "\n".join([engine_sha256, version, gpu.name, str(gpu.sm), *map(str, gpu.cuda)])
        self.path = directory / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.cache"
        self._known: bytes | None = None

    def load_into(self, cache: Any) -> bool:
        """Give an `IRuntimeCache` what was kept, and say whether it took it."""
        kept = self._read()
        if kept is None or not cache.deserialize(kept):
            return False
        self._known = kept
        return True

    def keep(self, cache: Any) -> None:
        """Write what the cache now holds, if that is new. That it cannot be written is a warning, not an error."""
        blob = cache.serialize()
        if blob is None or bytes(blob) == self._known:
            return
        compiled = bytes(blob)
        try:
            self._write(compiled)
        except OSError as error:
            warnings.warn(
                f"what TensorRT-RTX compiled cannot be kept in {self.path.parent} ({error.strerror}); the next start "
                "compiles it again",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        self._known = compiled

    def _read(self) -> bytes | None:
        try:
            stored = self.path.read_bytes()
        except OSError:
            return None
        digest, kept = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
        return kept if hashlib.sha256(kept).digest() == digest else None

    def _write(self, compiled: bytes) -> None:
        """Whole or not at all; readable by its owner alone, as it is code for the GPU."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".partial-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(compiled).digest() + compiled)
            Path(name).replace(self.path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
