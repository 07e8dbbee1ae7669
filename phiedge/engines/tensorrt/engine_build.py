"""Building one engine with TensorRT's builder, in the process that is meant for it.

    parse -> walk the network -> build -> read what the builder told -> write

Ahead of time, for the compute capabilities of the request, where the library can; otherwise for the GPU at hand, on
which kernels are tried. What differs between TensorRTs is asked of `Capabilities`.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from phiedge.devices.host import process_memory
from phiedge.engines.tensorrt import timing_cache
from phiedge.engines.tensorrt.build_log import check_decoder_log, read_log
from phiedge.engines.tensorrt.callbacks import build_logger, build_monitor
from phiedge.engines.tensorrt.driver import Gpu
from phiedge.engines.tensorrt.library import LIBRARIES, Library, load_library, require_driver
from phiedge.engines.tensorrt.network_walk import check_network
from phiedge.engines.tensorrt.ports import ANY
from phiedge.engines.tensorrt.request import BuildAnswer, BuildRequest
from phiedge.engines.tensorrt.workspace import limit_workspace
from phiedge.errors import BundleError


def build_engine(request: BuildRequest, tell: Callable[[float], None]) -> BuildAnswer:
    """Build the engine of `request` into its files; `tell` hears the share that is done.

    Raises `BundleError` for a graph that this TensorRT does not read or build, or makes something else of than the
    request says; `DeviceError` where the library needs a GPU and there is none.
    """
    library = load_library(request.backend)
    # Without a driver the builder of the full TensorRT crashes the process.
    gpu = None if library.capabilities.builds_ahead else require_driver(library)
    started_ns = time.monotonic_ns()
    log = build_logger(library.trt)
    engine = _serialised(library, gpu, log, request, tell)
    _keep_what_was_told(library, log.layers, request)
    Path(request.engine).write_bytes(engine)
    return BuildAnswer(
        version=library.version,
        engine_bytes=engine.nbytes,
        build_ns=time.monotonic_ns() - started_ns,
        peak_bytes=process_memory().peak_bytes,
    )


def _serialised(
    library: Library, gpu: Gpu | None, log: Any, request: BuildRequest, tell: Callable[[float], None]
) -> Any:
    """The engine in memory; the network and what the builder knew of it are gone when this returns."""
    trt = library.trt
    builder = trt.Builder(log)
    if request.threads is not None:
        builder.max_threads = request.threads
    network = builder.create_network(_network_flags(library))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(request.graph):
        raise _refused(library, request, "read", parser.get_error(0).desc())
    check_network(network, trt, request)
    config = _config(builder, library, request)
    if gpu is not None:
        limit_workspace(config, trt, gpu)
    if request.timing_cache is not None:
        timing_cache.begin(config, Path(request.timing_cache))
    monitor = build_monitor(trt, tell) if library.capabilities.progress_monitor else None
    if monitor is not None:
        config.progress_monitor = monitor
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise _refused(library, request, "build", log.errors[-1] if log.errors else "it does not say why")
    if request.timing_cache is not None:
        timing_cache.keep(config, Path(request.timing_cache))
    return engine


def _keep_what_was_told(library: Library, lines: Sequence[str], request: BuildRequest) -> None:
    """Write down the layers, and refuse a decoder that does not attend or keep its cache as it must.

    The log of the full TensorRT is not known in every release, and a build on the device takes long: there, what cannot
    be read is left out, and the walk of the network is what the engine is judged by.
    """
    try:
        told = read_log(lines)
    except BundleError:
        if library.capabilities.builds_ahead:
            raise
        return
    if library.capabilities.builds_ahead and request.part == "decoder":
        assert request.capacity is not None, "a decoder has a capacity"
        check_decoder_log(told, layers=request.attentions, capacity=request.capacity)
    Path(request.layers).write_text(told.to_json(), encoding="utf-8")


def _network_flags(library: Library) -> int:
    if not library.capabilities.strongly_typed_flag:
        return 0
    return 1 << int(library.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _config(builder: Any, library: Library, request: BuildRequest) -> Any:
    trt = library.trt
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if request.sms:
        config.num_compute_capabilities = len(request.sms)
        for index, sm in enumerate(request.sms):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{sm}"), index)
    for sizes in request.profiles:
        profile = builder.create_optimization_profile()
        for port in request.ports.inputs:
            if ANY in port.shape:
                profile.set_shape(port.name, *(port.sized(size) for size in sizes))
        config.add_optimization_profile(profile)
    return config


def _refused(library: Library, request: BuildRequest, verb: str, told: str) -> BundleError:
    title = LIBRARIES[library.backend].title
    return BundleError(
        f"{title} {library.version} does not {verb} {Path(request.graph).name}: {told.strip()}",
        remedy=f"export the bundle again; if that does not help, report this with the version of {title}",
    )
