"""Engines of TensorRT and TensorRT-RTX in a bundle: how they are called, what their record says, and which is usable.

An engine serves the GPUs that it was built for and the one release of TensorRT that built it. What was made from other
graphs, in another dialect, by another release or for another GPU is refused, with both sides named.
"""

from collections.abc import Mapping

from phiedge.bundle import Bundle, FileEntry
from phiedge.engines.engine_record import BuiltEngine, EngineRecord, built_engines, check_engine
from phiedge.engines.tensorrt.families import Family, family_name
from phiedge.engines.tensorrt.library import Library
from phiedge.errors import BundleError

VISION, DECODER = "vision.engine", "decoder.engine"
VISION_LAYERS, DECODER_LAYERS = "vision.layers.json", "decoder.layers.json"
TIMING_CACHE = "timing.cache"
CHUNK_TOKENS = 256
_SMS = "compute capabilities"


def engine_name(backend: str, family: Family) -> str:
    """The engine's directory below `engines/`."""
    return f"{backend}-{family_name(family)}"


def describe(
    bundle: Bundle,
    files: Mapping[str, FileEntry],
    *,
    library: Library,
    family: Family,
    chunk_tokens: int,
    goldens: str | None,
    phiedge_version: str,
) -> EngineRecord:
    """The record of an engine that `library` built from `bundle` for the GPUs of `family`.

    `goldens` is a file of the engine with what it answered when it was tried, where the bundle has none.
    """
    name = library.capabilities.dialect
    dialect = bundle.manifest.dialects[name]
    made_from = bundle.manifest.graph_files(dialect.vision) | bundle.manifest.graph_files(dialect.decoder)
    return EngineRecord(
        backend=library.backend,
        phiedge_version=phiedge_version,
        tools={library.backend: library.version},
        machine={_SMS: " ".join(map(str, family))},
        options={"dialect": name, "capacity": str(dialect.max_context), "chunk_tokens": str(chunk_tokens)},
        source={path: entry.sha256 for path, entry in made_from.items()},
        vision=VISION,
        decoder=DECODER,
        goldens=goldens,
        files=files,
    )


def engine_sms(engine: BuiltEngine) -> tuple[int, ...]:
    """The compute capabilities that an engine was built for. Raises `BundleError` for a record that does not say."""
    told = engine.record.machine.get(_SMS, "")
    if not told.strip() or not all(sm.isascii() and sm.isdigit() for sm in told.split()):
        raise BundleError(
            f"{engine.path} was built for the compute capabilities {told!r}, which are none",
            remedy=f"build it again (phiedge build), or remove {engine.path}",
        )
    return tuple(map(int, told.split()))


def find(bundle: Bundle, *, backend: str, sm: int) -> BuiltEngine | None:
    """The engine of `backend` for GPUs of compute capability `sm`, whatever built it; None where there is none.

    Raises `BundleError` where there are some, and none is for such a GPU.
    """
    engines = [engine for engine in built_engines(bundle) if engine.record.backend == backend]
    for engine in engines:
        if sm in engine_sms(engine):
            return engine
    if engines:
        there = "; ".join(f"{engine.name} for SM {', '.join(map(str, engine_sms(engine)))}" for engine in engines)
        raise BundleError(
            f"{bundle.path} has no {backend} engine for SM {sm}, which this GPU is; it has {there}",
            remedy=_build(bundle, backend, sm),
        )
    return None


def usable_engine(bundle: Bundle, library: Library, *, sm: int) -> BuiltEngine | None:
    """The engine that `library` can run on a GPU of compute capability `sm`; None where nothing was built for it.

    Raises `BundleError` for engines of other GPUs only, and for one that another release built, in another dialect or
    from other graphs; each with both sides.
    """
    engine = find(bundle, backend=library.backend, sm=sm)
    if engine is not None:
        check_usable(engine, bundle, library)
    return engine


def check_usable(engine: BuiltEngine, bundle: Bundle, library: Library) -> None:
    """Refuse an engine that another release built, in another dialect or from other graphs. Raises `BundleError`."""
    tools = {library.backend: library.version}
    check_engine(engine, bundle, tools=tools, machine=engine.record.machine)
    made, wanted = engine.record.options.get("dialect"), library.capabilities.dialect
    if made != wanted:
        raise BundleError(
            f"the engine {engine.path} was built from the {made} dialect; {library.backend} {library.version} wants "
            f"{wanted}",
            remedy=_build(bundle, library.backend, engine_sms(engine)[0]),
        )
    capacity, has = engine.record.options.get("capacity"), bundle.manifest.dialects[wanted].max_context
    if capacity != str(has):
        raise BundleError(
            f"the engine {engine.path} was built for a cache of {capacity} positions; the bundle's graphs have {has}",
            remedy=_build(bundle, library.backend, engine_sms(engine)[0]),
        )


def _build(bundle: Bundle, backend: str, sm: int) -> str:
    where = f" --sm {sm}" if backend == "tensorrt-rtx" else ", on the machine with that GPU"
    return f"phiedge build {bundle.path} --backend {backend}{where}"
