"""Both engines of a bundle, opened on TensorRT or TensorRT-RTX on the first GPU, or what is in the way of it.

    library → driver → engine for this GPU → pycuda → memory → weights → buffers → a first run of everything

Each step is refused with its reason before the next one begins: the full TensorRT crashes the process when it is made
without a driver. `threads` are those of the host; nothing here computes there.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from phiedge.bundle import Bundle, Dialect
from phiedge.devices.work import cache_bytes
from phiedge.engines.engine_record import BuiltEngine
from phiedge.engines.interface import Engines
from phiedge.engines.tensorrt.buffer_plan import ACTIVATION, DecoderPlan, plan_decoder
from phiedge.engines.tensorrt.built import check_usable, usable_engine
from phiedge.engines.tensorrt.decoder import TensorRtDecoder
from phiedge.engines.tensorrt.device_memory import ALIGNMENT_BYTES, DeviceMemory
from phiedge.engines.tensorrt.driver import Gpu
from phiedge.engines.tensorrt.engine_thread import EngineThread
from phiedge.engines.tensorrt.library import Library, load_library, require_driver
from phiedge.engines.tensorrt.loaded_engine import LoadedEngine
from phiedge.engines.tensorrt.memory_need import LIBRARY_BYTES, require_device_memory
from phiedge.engines.tensorrt.pycuda_memory import PycudaMemory
from phiedge.engines.tensorrt.runtime_cache import RuntimeCacheFile, cache_directory
from phiedge.engines.tensorrt.vision import TensorRtVision, VisionPlan, plan_vision
from phiedge.errors import BundleError, ContextLengthError, DeviceError

OpenMemory: TypeAlias = Callable[[Gpu], DeviceMemory]


def open_engines(
    bundle: Bundle, *, backend: str, threads: int, capacity: int, engine: BuiltEngine | None = None
) -> Engines:
    """Open the engine of the bundle that was built for this GPU, or `engine`, which is being built.

    Raises `MissingExtraError`, `DeviceError` and `SessionError` naming what the machine lacks, `BundleError` where
    there is no engine for it or one that does not belong to it, `ContextLengthError` above the engine's capacity.
    """
    library = load_library(backend)
    try:
        gpu = require_driver(library)
    except DeviceError as error:
        raise DeviceError(error.message, remedy=f"{error.remedy}; or use --backend onnxruntime") from error
    return open_on(bundle, library, gpu, capacity=capacity, engine=engine, open_memory=PycudaMemory)


def open_on(
    bundle: Bundle,
    library: Library,
    gpu: Gpu,
    *,
    capacity: int,
    engine: BuiltEngine | None = None,
    open_memory: OpenMemory,
) -> Engines:
    """The same, once it is known what there is; `open_memory` is called on the thread that will use its memory."""
    dialect = _dialect(bundle, library)
    _check_capacity(bundle, dialect, library, capacity)
    built = engine or _engine_for(bundle, library, gpu)
    check_usable(built, bundle, library)
    thread = EngineThread(partial(open_memory, gpu))
    _require_before_loading(bundle, built, dialect, thread, gpu)
    # While an engine is being built, its files have no hashes yet that what is compiled could be kept under.
    keeps = engine is None and library.capabilities.runtime_cache
    names = (built.record.vision, built.record.decoder)
    vision, decoder = (_load(thread, built, name, library, gpu, keeps=keeps) for name in names)
    facts = bundle.manifest.facts
    vision_plan = plan_vision(vision.path, vision, facts)
    decoder_plan = plan_decoder(
        decoder.path, decoder.bindings, facts, dialect=library.capabilities.dialect, capacity=dialect.max_context
    )
    profiles = [(one, profile) for one in (vision, decoder) for profile in range(one.profiles)]
    scratch_bytes = max(ALIGNMENT_BYTES, *(one.scratch_bytes(profile) for one, profile in profiles))
    _require_before_allocating(vision_plan, decoder_plan, scratch_bytes, thread, gpu)
    scratch = thread(partial(thread.memory.allocate, scratch_bytes))
    engines = Engines(
        backend=library.backend,
        vision=TensorRtVision(vision, vision_plan, thread=thread, scratch=scratch, scratch_bytes=scratch_bytes),
        decoder=TensorRtDecoder(decoder, decoder_plan, thread=thread, scratch=scratch, scratch_bytes=scratch_bytes),
    )
    for loaded in (vision, decoder):
        thread(loaded.keep_compiled)
    return engines


def _dialect(bundle: Bundle, library: Library) -> Dialect:
    name, dialects = library.capabilities.dialect, bundle.manifest.dialects
    if name not in dialects:
        raise BundleError(
            f"{bundle.path} has graphs for {', '.join(dialects) or 'no dialect'}; {library.backend} {library.version} "
            f"computes {name}",
            remedy="export it for a GPU at int4 or fp16 (phiedge devices list), or use --backend onnxruntime",
        )
    return dialects[name]


def _check_capacity(bundle: Bundle, dialect: Dialect, library: Library, capacity: int) -> None:
    if capacity > dialect.max_context:
        raise ContextLengthError(
            f"a context of {capacity} positions was asked, the {library.backend} engines of {bundle.path} have "
            f"{dialect.max_context}",
            remedy=f"use --max-context {dialect.max_context}, or export the bundle with --max-context {capacity}",
        )


def _engine_for(bundle: Bundle, library: Library, gpu: Gpu) -> BuiltEngine:
    built = usable_engine(bundle, library, sm=gpu.sm)
    if built is None:
        raise BundleError(
            f"{bundle.path} has no {library.backend} engine; {gpu.name} needs one for SM {gpu.sm}",
            remedy=f"phiedge build {bundle.path} --backend {library.backend}; or use --backend onnxruntime",
        )
    return built


def _load(
    thread: EngineThread, built: BuiltEngine, name: str, library: Library, gpu: Gpu, *, keeps: bool
) -> LoadedEngine:
    kept = None
    if keeps:
        digest = built.record.files[name].sha256
        kept = RuntimeCacheFile(cache_directory(), engine_sha256=digest, version=library.version, gpu=gpu)
    engine = thread(partial(LoadedEngine, library, built.file(name), kept=kept))
    thread.hold(engine.close)
    return engine


def _require_before_loading(
    bundle: Bundle, built: BuiltEngine, dialect: Dialect, thread: EngineThread, gpu: Gpu
) -> None:
    record = built.record
    cache = cache_bytes(bundle.manifest.facts, positions=dialect.max_context, item_bytes=ACTIVATION.itemsize)
    parts = {
        "weights": sum(record.files[name].bytes for name in (record.vision, record.decoder)),
        f"a cache of {dialect.max_context} positions": cache,
        "CUDA": LIBRARY_BYTES,
    }
    free_bytes = thread(thread.memory.free_bytes)
    require_device_memory(gpu.name, parts, free_bytes=free_bytes, max_context=dialect.max_context)


def _require_before_allocating(
    vision: VisionPlan, decoder: DecoderPlan, scratch_bytes: int, thread: EngineThread, gpu: Gpu
) -> None:
    parts = {
        f"a cache of {decoder.capacity} positions": decoder.cache_bytes,
        "inputs and outputs": decoder.total_bytes - decoder.cache_bytes + vision.total_bytes,
        "kernels": scratch_bytes,
    }
    free_bytes = thread(thread.memory.free_bytes)
    require_device_memory(gpu.name, parts, free_bytes=free_bytes, max_context=decoder.capacity)
