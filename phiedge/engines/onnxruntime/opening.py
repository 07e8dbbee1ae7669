"""Both graphs of a bundle, opened on ONNX Runtime."""

from phiedge.bundle import Bundle, Dialect
from phiedge.engines.interface import Engines
from phiedge.engines.onnxruntime.decoder import OrtDecoder
from phiedge.engines.onnxruntime.vision import OrtVision
from phiedge.errors import BundleError

DIALECT = "ort"


def open_engines(bundle: Bundle, *, backend: str, threads: int, capacity: int) -> Engines:
    """Open the graphs of the bundle's `ort` dialect. Raises `BundleError`, `SessionError`, `UsageError`."""
    dialect = ort_dialect(bundle)
    facts = bundle.manifest.facts
    return Engines(
        backend=backend,
        vision=OrtVision(bundle.file(dialect.vision), facts, threads=threads),
        decoder=OrtDecoder(bundle.file(dialect.decoder), facts, threads=threads, capacity=capacity),
    )


def ort_dialect(bundle: Bundle) -> Dialect:
    """The bundle's graphs for ONNX Runtime. Raises `BundleError` if it has none."""
    dialects = bundle.manifest.dialects
    if DIALECT not in dialects:
        raise BundleError(
            f"{bundle.path} has graphs for {', '.join(dialects) or 'no dialect'}, not for {DIALECT}",
            remedy="export the bundle again for a target that ONNX Runtime serves",
        )
    return dialects[DIALECT]
