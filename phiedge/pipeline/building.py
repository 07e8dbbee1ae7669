"""`build`: make engines of a bundle, and give them their names.

An engine for this machine has its name only after it was tried (`engine_trial.py`): ONNX Runtime's, and TensorRT's on
the device. Those of TensorRT-RTX and the files for Edge-LLM are for machines that are elsewhere
(`building_tensorrt.py`, `building_edge_llm.py`).
"""

import os
from collections.abc import Mapping, Sequence

from phiedge import __version__
from phiedge.bundle import Bundle, FileEntry
from phiedge.engines.edge_llm.built import BACKEND as EDGE_BACKEND
from phiedge.engines.edge_llm.tool import ExporterChoice
from phiedge.engines.engine_record import BuiltEngine, EngineRecord
from phiedge.engines.engine_writer import EngineWriter
from phiedge.engines.onnxruntime import built
from phiedge.engines.onnxruntime.opening import ort_dialect
from phiedge.engines.tensorrt.library import RTX_BACKEND, TENSORRT_BACKEND
from phiedge.engines.tensorrt_llm.installation import BACKEND as TENSORRT_LLM_BACKEND
from phiedge.engines.threads import check_threads, default_threads
from phiedge.errors import UsageError, nearest
from phiedge.pipeline.building_edge_llm import build_edge_llm
from phiedge.pipeline.building_tensorrt import build_tensorrt
from phiedge.pipeline.engine_trial import try_engine
from phiedge.pipeline.whole_bundle import require_whole
from phiedge.progress import Progress, silent

BUILDABLE = (built.BACKEND, RTX_BACKEND, TENSORRT_BACKEND, EDGE_BACKEND)
# What the verb takes: the last has no engine in the bundle, but a checkpoint beside it (building_tensorrt_llm.py).
VERB_BACKENDS = (*BUILDABLE, TENSORRT_LLM_BACKEND)


def build(
    path: str | os.PathLike[str],
    *,
    backend: str = built.BACKEND,
    threads: int | None = None,
    sms: Sequence[int] | None = None,
    exporter: ExporterChoice | None = None,
    progress: Progress = silent,
) -> list[BuiltEngine]:
    """Build the engines of `backend` into the bundle at `path`; those of the same name that are there are replaced.

    For ONNX Runtime and "tensorrt" that is one for this machine, which is tried. For "tensorrt-rtx" they are for GPUs
    of the compute capabilities `sms` (86 is 8.6), by default of the bundle's target; nothing of them runs here. For
    "edge-llm" it is what TensorRT Edge-LLM builds engines from on the device, made by the exporter that `exporter`
    says. The bundle's files are checked first, so that an engine is never made of damaged ones. Raises `UsageError`,
    `BundleError` (`IntegrityError`), `DeviceError` where memory is short, `MissingExtraError`, `SessionError`,
    `ToolError`.
    """
    if backend not in BUILDABLE:
        close = nearest(backend, VERB_BACKENDS) or list(VERB_BACKENDS)
        raise UsageError(f"there is nothing to build for {backend!r}", remedy=f"use --backend {' or '.join(close)}")
    if threads is not None:
        check_threads(threads)
    if exporter is not None and backend != EDGE_BACKEND:
        raise UsageError(f"--backend {backend} needs no exporter", remedy=f"leave it out, or use {EDGE_BACKEND}")
    if backend == EDGE_BACKEND:
        _refuse_options(backend, sms=sms, threads=threads)
        return [build_edge_llm(Bundle.open(path), exporter or ExporterChoice(), progress)]
    if backend != built.BACKEND:
        return build_tensorrt(Bundle.open(path), backend=backend, sms=sms, threads=threads, progress=progress)
    if sms is not None:
        raise UsageError(f"--sm is of GPUs; --backend {backend} builds for a processor", remedy="leave --sm out")
    return [_build_for_processor(Bundle.open(path), default_threads() if threads is None else threads, progress)]


def _refuse_options(backend: str, **options: object) -> None:
    """Refuse options that `backend` would have to ignore."""
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"--backend {backend} takes no {name}", remedy="leave the option out")


def _build_for_processor(bundle: Bundle, threads: int, progress: Progress) -> BuiltEngine:
    ort_dialect(bundle)
    with EngineWriter(bundle, built.ENGINE_NAME) as writer:
        writer.require_space(built.engine_bytes(bundle))
        require_whole(bundle, progress)
        built.save_graphs(bundle, writer.path, threads=threads, progress=progress)
        engine = writer.preview(lambda files: _describe(bundle, files, None))
        named = try_engine(bundle, engine, threads=threads, progress=progress)
        return writer.commit(lambda files: _describe(bundle, files, named), progress)


def _describe(bundle: Bundle, files: Mapping[str, FileEntry], named: str | None) -> EngineRecord:
    return built.describe(bundle, files, goldens=named, phiedge_version=__version__)
