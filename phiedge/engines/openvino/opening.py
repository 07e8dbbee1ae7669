"""Both engines of a bundle for `--backend openvino`: its decoder on OpenVINO, its vision graph on ONNX Runtime."""

from phiedge.bundle import Bundle
from phiedge.engines.engine_record import BuiltEngine
from phiedge.engines.interface import Engines
from phiedge.engines.onnxruntime.memory_need import require_memory_to_open
from phiedge.engines.onnxruntime.opening import ort_dialect
from phiedge.engines.onnxruntime.vision import OrtVision
from phiedge.engines.openvino.decoder import OpenVinoDecoder
from phiedge.errors import BundleError, UsageError


def open_engines(
    bundle: Bundle, *, backend: str, threads: int, capacity: int, engine: BuiltEngine | None = None
) -> Engines:
    """Open the bundle's `ort` graphs; the decoder's weights are those of the bundle to the bit.

    Raises `BundleError` for a decoder that is not of int4 groups and float32 rows, `MissingExtraError` without
    openvino, `DeviceError` where there is too little memory.
    """
    if engine is not None:
        raise UsageError(f"{backend} opens the graphs of the bundle, not a built engine")
    dialect, precision, facts = ort_dialect(bundle), bundle.manifest.precision, bundle.manifest.facts
    if precision.group_size is None or precision.codes != "offset":
        raise BundleError(
            f"{bundle.path} has a decoder of {precision.decoder} for {bundle.manifest.target['name']}; "
            f"{backend} runs int4 as it is stored for a CPU",
            remedy="export it with --target cpu --precision int4, or use --backend onnxruntime",
        )
    if precision.cache is not None:
        raise BundleError(
            f"{bundle.path} keeps keys and values as {precision.cache} with scales of its own, "
            f"which {backend} has no kernel for",
            remedy="use --backend onnxruntime, or export with --kv-cache float",
        )
    require_memory_to_open(bundle, dialect, None, capacity=capacity)
    return Engines(
        backend=backend,
        vision=OrtVision(bundle.file(dialect.vision), facts, threads=threads),
        decoder=OpenVinoDecoder(
            bundle.file(dialect.decoder),
            facts,
            group_size=precision.group_size,
            threads=threads,
            capacity=capacity,
        ),
    )
