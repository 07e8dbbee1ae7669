"""The TensorRT half of `build`: two engines for each family of GPUs, or what is missing before any is begun.

Ahead of time nothing can be tried: what was built is judged by what its builder told of it. On the device it is tried
as well.
"""

from collections.abc import Mapping, Sequence

from phiedge import __version__
from phiedge.bundle import Bundle, FileEntry
from phiedge.engines.engine_record import BuiltEngine, EngineRecord
from phiedge.engines.engine_writer import EngineWriter
from phiedge.engines.tensorrt import building, built, timing_cache
from phiedge.engines.tensorrt.families import Family
from phiedge.engines.tensorrt.library import Library, load_library
from phiedge.engines.tensorrt.pycuda_memory import load_pycuda
from phiedge.engines.tensorrt.worker_process import build_in_process
from phiedge.pipeline.engine_trial import try_engine
from phiedge.pipeline.whole_bundle import require_whole
from phiedge.progress import Labelled, Progress


def build_tensorrt(
    bundle: Bundle, *, backend: str, sms: Sequence[int] | None, threads: int | None, progress: Progress
) -> list[BuiltEngine]:
    """Build the engines of `backend` for all of `sms`. Raises as `build` does."""
    library = load_library(backend)
    families = building.choose_families(bundle, library, sms)
    for family in families:
        dialect = building.check_buildable(bundle, library, family)
    building.require_memory_to_build(bundle, dialect, maps_weights=library.capabilities.maps_weights)
    if not library.capabilities.builds_ahead:
        building.require_gpu_to_build(bundle, dialect)
        load_pycuda()  # to try the engines with, when they are there
    engines = []
    for number, family in enumerate(families):
        with EngineWriter(bundle, built.engine_name(backend, family)) as writer:
            writer.require_space((len(families) - number) * building.engine_bytes(bundle, dialect))
            if number == 0:
                require_whole(bundle, progress)
            engines.append(_build(bundle, library, family, writer, threads, _labelled(progress, families, family)))
    return engines


def _build(
    bundle: Bundle, library: Library, family: Family, writer: EngineWriter, threads: int | None, progress: Progress
) -> BuiltEngine:
    if library.capabilities.timing_cache:
        name, tools = built.engine_name(library.backend, family), {library.backend: library.version}
        timing_cache.take_over(bundle, name, writer.path / built.TIMING_CACHE, tools=tools)
    for request in building.requests(bundle, library, family, writer.path, threads=threads):
        build_in_process(request, progress)

    named = None

    def describe(files: Mapping[str, FileEntry]) -> EngineRecord:
        dialect = bundle.manifest.dialects[library.capabilities.dialect]
        return built.describe(
            bundle,
            files,
            library=library,
            family=family,
            chunk_tokens=building.chunk_tokens(dialect),
            goldens=named,
            phiedge_version=__version__,
        )

    if not library.capabilities.builds_ahead:
        named = try_engine(bundle, writer.preview(describe), threads=None, progress=progress)
    return writer.commit(describe, progress)


def _labelled(progress: Progress, families: Sequence[Family], family: Family) -> Progress:
    if len(families) == 1:
        return progress
    return Labelled(progress=progress, label="+".join(map(str, family)))
