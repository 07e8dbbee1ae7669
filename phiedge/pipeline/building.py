"""`build`: make engines of a bundle, and give them their names.

Nothing is visible under the name of ONNX Runtime's engine before it has answered as the bundle did where it was
exported, or, where an export could not try the model, before its own answers are written down. TensorRT's are built for
machines that are elsewhere (`building_tensorrt.py`).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from phiedge import __version__
from phiedge.bundle import Bundle, FileEntry
from phiedge.engines.engine_record import BuiltEngine, EngineRecord
from phiedge.engines.engine_writer import EngineWriter
from phiedge.engines.onnxruntime import built
from phiedge.engines.onnxruntime.opening import ort_dialect
from phiedge.engines.tensorrt.library import RTX_BACKEND, TENSORRT_BACKEND
from phiedge.engines.threads import check_threads, default_threads
from phiedge.errors import BundleError, UsageError, nearest
from phiedge.pipeline.building_tensorrt import build_tensorrt
from phiedge.pipeline.golden_questions import golden_questions
from phiedge.pipeline.whole_bundle import require_whole
from phiedge.progress import Progress, silent
from phiedge.runtime import goldens
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.session import DEFAULT_CHUNK_TOKENS, Session

BUILDABLE = (built.BACKEND, RTX_BACKEND, TENSORRT_BACKEND)


def build(
    path: str | os.PathLike[str],
    *,
    backend: str = built.BACKEND,
    threads: int | None = None,
    sms: Sequence[int] | None = None,
    progress: Progress = silent,
) -> list[BuiltEngine]:
    """Build the engines of `backend` into the bundle at `path`; those of the same name that are there are replaced.

    For ONNX Runtime that is one for this machine, which is tried. For "tensorrt-rtx" they are for GPUs of the compute
    capabilities `sms` (86 is 8.6), by default of the bundle's target; nothing of them runs here. The bundle's files are
    checked first, so that an engine is never made of damaged ones. Raises `UsageError`, `BundleError`
    (`IntegrityError`), `DeviceError` where memory is short, `MissingExtraError`, `SessionError`.
    """
    if backend not in BUILDABLE:
        close = nearest(backend, BUILDABLE) or list(BUILDABLE)
        raise UsageError(f"there is nothing to build for {backend!r}", remedy=f"use --backend {' or '.join(close)}")
    if threads is not None:
        check_threads(threads)
    if backend != built.BACKEND:
        return build_tensorrt(Bundle.open(path), backend=backend, sms=sms, threads=threads, progress=progress)
    if sms is not None:
        raise UsageError(f"--sm is of GPUs; --backend {backend} builds for a processor", remedy="leave --sm out")
    return [_build_for_processor(Bundle.open(path), default_threads() if threads is None else threads, progress)]


def _build_for_processor(bundle: Bundle, threads: int, progress: Progress) -> BuiltEngine:
    ort_dialect(bundle)
    with EngineWriter(bundle, built.ENGINE_NAME) as writer:
        writer.require_space(built.engine_bytes(bundle))
        require_whole(bundle, progress)
        built.save_graphs(bundle, writer.path, threads=threads, progress=progress)
        named = _try(bundle, writer, threads, progress)
        return writer.commit(lambda files: _describe(bundle, files, named), progress)


def _describe(bundle: Bundle, files: Mapping[str, FileEntry], named: str | None) -> EngineRecord:
    return built.describe(bundle, files, goldens=named, phiedge_version=__version__)


def _try(bundle: Bundle, writer: EngineWriter, threads: int, progress: Progress) -> str | None:
    """Hold the engine's answers against the bundle's goldens; without any, write them down and return their file."""
    engine = writer.preview(lambda files: _describe(bundle, files, None))
    context = min(bundle.manifest.max_context, goldens.GOLDENS_CONTEXT)
    model = LoadedModel(
        bundle,
        max_context=context,
        threads=threads,
        chunk_tokens=DEFAULT_CHUNK_TOKENS,
        backend=built.BACKEND,  # whatever else there is, and would be used, for this bundle on this machine
        engine=engine,
    )
    with Session(bundle, model, load_ns=0) as session:
        if bundle.manifest.goldens is not None:
            _require_same(bundle, goldens.compare(session, goldens.load(bundle), progress))
            return None
        found = goldens.record(session, golden_questions(), progress=progress)
        return _save(found, writer.path)


def _require_same(bundle: Bundle, rows: Sequence[goldens.GoldenCheck]) -> None:
    for row in rows:
        if not row.ok:
            raise BundleError(
                f"the engine does not answer the golden {row.name!r} as {bundle.path} does: the logits are "
                f"{row.max_abs_diff} apart, {row.tolerance:g} are allowed",
                remedy="install the onnxruntime version that phiedge was tested with, and report this",
            )


def _save(found: list[goldens.Golden], directory: Path) -> str | None:
    if not found:
        return None
    goldens.save(found, directory / goldens.GOLDENS_FILE)
    return goldens.GOLDENS_FILE
