"""Both graphs of a bundle, opened on ONNX Runtime: as an engine built for this machine, or as they were exported."""

from pathlib import Path

from phiedge.bundle import Bundle, Dialect
from phiedge.engines.engine_record import BuiltEngine
from phiedge.engines.interface import Engines
from phiedge.engines.onnxruntime.built import usable_engine
from phiedge.engines.onnxruntime.cache_scales import check_cache_scales
from phiedge.engines.onnxruntime.decoder import OrtDecoder
from phiedge.engines.onnxruntime.memory_need import require_memory_to_open
from phiedge.engines.onnxruntime.vision import OrtVision
from phiedge.errors import BundleError

DIALECT = "ort"


def open_engines(
    bundle: Bundle, *, backend: str, threads: int, capacity: int, engine: BuiltEngine | None = None
) -> Engines:
    """Open the bundle's `ort` graphs on the CPU; `engine` opens one that is being built.

    Raises `BundleError`, also for a built engine that does not belong to this machine, `DeviceError` where there is
    too little memory, `SessionError`, `UsageError`.
    """
    dialect = ort_dialect(bundle)
    engine = engine or usable_engine(bundle)
    require_memory_to_open(bundle, dialect, engine, capacity=capacity)
    vision, decoder = _graphs(bundle, dialect, engine)
    facts, cache_type = bundle.manifest.facts, bundle.manifest.precision.cache
    check_cache_scales(bundle, dialect)
    return Engines(
        backend=backend,
        vision=OrtVision(vision, facts, threads=threads),
        decoder=OrtDecoder(decoder, facts, threads=threads, capacity=capacity, cache_type=cache_type),
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


def _graphs(bundle: Bundle, dialect: Dialect, engine: BuiltEngine | None) -> tuple[Path, Path]:
    if engine is None:
        return bundle.file(dialect.vision), bundle.file(dialect.decoder)
    return engine.file(engine.record.vision), engine.file(engine.record.decoder)
