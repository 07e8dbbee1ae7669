"""Both graphs of a bundle, opened on a CUDA device, and what there may be to say against it."""

import contextlib
import ctypes
import io
import os

import numpy as np

from phiedge.bundle import Bundle, ModelFacts
from phiedge.bundle.manifest import VISION_EIGHT_BITS
from phiedge.engines.engine_record import BuiltEngine
from phiedge.engines.interface import Engines
from phiedge.engines.onnxruntime.cache_scales import check_cache_scales
from phiedge.engines.onnxruntime.device_decoder import DeviceDecoder
from phiedge.engines.onnxruntime.device_thread import DeviceThread
from phiedge.engines.onnxruntime.library import FATAL_ONLY, ort
from phiedge.engines.onnxruntime.opening import DIALECT, ort_dialect
from phiedge.engines.onnxruntime.provider import CUDA, cuda
from phiedge.engines.onnxruntime.vision import OrtVision
from phiedge.errors import BundleError, SessionError, UsageError

GUIDE, PACKAGE = "docs/guides/gpu.md", "onnxruntime-gpu[cuda,cudnn]"
DRIVER = "libcuda.so.1"


def suits(bundle: Bundle) -> bool:
    """Whether `bundle` was made for a GPU that the installed ONNX Runtime could use; asks for no driver."""
    manifest = bundle.manifest
    made_for_it = DIALECT in manifest.dialects and manifest.target.get("sm") is not None and _is_16_bit(bundle)
    return made_for_it and CUDA in ort.get_available_providers()


def open_engines(
    bundle: Bundle, *, backend: str, threads: int, capacity: int, engine: BuiltEngine | None = None
) -> Engines:
    """Open the bundle's `ort` graphs on the first CUDA device, every node of them, or not at all.

    Raises `BundleError` for graphs that CUDA has no kernels for, `SessionError` naming what the machine lacks.
    """
    dialect = ort_dialect(bundle)
    if engine is not None:
        raise UsageError(f"{backend} opens the graphs of the bundle, not a built engine")
    if not _is_16_bit(bundle):
        raise BundleError(
            f"{bundle.path} computes in {dialect.activations}, and ONNX Runtime's attention with a "
            "cache has kernels for 16 bits only on CUDA",
            remedy="export it for a discrete GPU (phiedge devices list) or with --precision fp16",
        )
    check_cache_scales(bundle, dialect)
    check_machine()
    facts, thread = bundle.manifest.facts, DeviceThread()
    vision = OrtVision(
        bundle.file(dialect.vision),
        facts,
        threads=threads,
        provider=cuda(captures=False, folds=bundle.manifest.precision.vision in VISION_EIGHT_BITS),
        thread=thread,
    )
    decoder = DeviceDecoder(
        bundle.file(dialect.decoder),
        facts,
        threads=threads,
        capacity=capacity,
        provider=cuda(captures=True, folds=bundle.manifest.precision.codes == "signed"),
        thread=thread,
        cache_type=bundle.manifest.precision.cache,
    )
    _warm_up(vision, facts)
    return Engines(backend=backend, vision=vision, decoder=decoder)


def check_machine() -> None:
    """Raises `SessionError` naming what is missing: the package, the driver, a library of CUDA.

    ONNX Runtime itself would open a session on the CPU instead, and say so on stderr.
    """
    if CUDA not in ort.get_available_providers():
        raise SessionError(
            f"the installed ONNX Runtime {ort.__version__} has no CUDA in it",
            remedy=f"pip uninstall onnxruntime, then pip install '{PACKAGE}', the same module with CUDA; see {GUIDE}",
        )
    if not _loads(DRIVER):
        raise SessionError(
            f"NVIDIA's driver is not installed: {DRIVER} cannot be loaded",
            remedy="install the driver (nvidia-smi must list the GPU), or compute on the CPU: --backend onnxruntime",
        )
    ort.set_default_logger_severity(FATAL_ONLY)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find, which is told below
        ort.preload_dlls()
    missing = [name for name in _cuda_libraries() if not _loads(name)]
    if missing:
        raise SessionError(
            f"ONNX Runtime {ort.__version__} is built for CUDA {_cuda_version()}, and {missing[0]} cannot be loaded",
            remedy=f"pip install '{PACKAGE}=={ort.__version__}'; see {GUIDE}",
        )


def _warm_up(vision: OrtVision, facts: ModelFacts) -> None:
    """Run one picture of zeros: what a device lacks, it shall lack now and not in the first request."""
    patches = facts.min_num_patches
    vision.encode(
        np.zeros((patches, 3 * facts.patch_size**2), vision.input_dtype),
        np.zeros((patches, facts.vision_hidden_size), vision.input_dtype),
        np.zeros((patches, facts.hidden_size), vision.output_dtype),
    )


def _is_16_bit(bundle: Bundle) -> bool:
    return bundle.manifest.dialects[DIALECT].activations == "float16"


def _cuda_version() -> str:
    """As `13.0`; packages for a CPU have none."""
    return str(getattr(ort, "cuda_version", "") or "")


def _cuda_libraries() -> list[str]:
    """What ONNX Runtime's CUDA provider is linked with, and cuDNN, which its MultiHeadAttention opens when it runs."""
    major = _cuda_version().partition(".")[0]
    linked = [f"libcudart.so.{major}", f"libcublasLt.so.{major}", f"libcublas.so.{major}", "libcurand.so.10"]
    return [*linked, "libcudnn.so.9"]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library, mode=os.RTLD_LAZY)
    except OSError:
        return False
    return True
