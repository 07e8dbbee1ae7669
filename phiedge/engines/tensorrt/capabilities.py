"""What one TensorRT can do that another cannot, asked of its Python module: TensorRT-RTX, and TensorRT 10 and 11.

One set of modules builds for and runs on all of them. Where they differ, it asks a flag of `Capabilities` and never a
version. That a name exists does not mean that a GPU was seen to honour it. What each release has is recorded in
tests/engines/tensorrt/surfaces, and every use of a name is held against it.
"""

from dataclasses import dataclass
from typing import Any

DIALECT, CONSERVATIVE_DIALECT = "tensorrt", "tensorrt-10.3"
# From this TensorRT on its parser takes what the modern dialect is made of: attention, rotary embeddings, caches.
MODERN_TENSORRT = (10, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a TensorRT has; `dialect` is the one of the bundle's that it takes."""

    dialect: str
    builds_ahead: bool  # for other GPUs than the one at hand, and without any
    strongly_typed_flag: bool  # networks are weakly typed unless they are asked not to be
    maps_weights: bool  # the parser maps the weights beside a graph; otherwise it reads them into memory
    timing_cache: bool  # measured kernels can be kept for the next build; TensorRT-RTX measures none when it builds
    progress_monitor: bool
    aliased_outputs: bool  # an engine says which output lies where an input does
    runtime_cache: bool  # kernels compiled on the device can be kept for the next start
    cuda_graph_strategy: bool  # an execution context captures its own CUDA graphs


def capabilities_of(trt: Any, *, ahead_of_time: bool, version: tuple[int, ...]) -> Capabilities:
    """Ask the module `trt`; `ahead_of_time` tells TensorRT-RTX (`version` 1.x) from TensorRT (10.x, 11.x)."""
    modern = _has(trt, "INetworkDefinition.add_kv_cache_update") and (ahead_of_time or version >= MODERN_TENSORRT)
    return Capabilities(
        dialect=DIALECT if modern else CONSERVATIVE_DIALECT,
        builds_ahead=_has(trt, "IBuilderConfig.set_compute_capability"),
        strongly_typed_flag=_has(trt, "BuilderFlag.FP16"),
        # Both came with 10.13: a parser that takes weights from elsewhere, and one that does not copy those of files.
        maps_weights=_has(trt, "OnnxParser.load_initializer"),
        timing_cache=_has(trt, "IBuilderConfig.set_timing_cache") and not ahead_of_time,
        progress_monitor=_has(trt, "IProgressMonitor"),
        aliased_outputs=_has(trt, "ICudaEngine.get_aliased_input_tensor"),
        runtime_cache=_has(trt, "IRuntimeConfig.create_runtime_cache"),
        cuda_graph_strategy=_has(trt, "IRuntimeConfig.cuda_graph_strategy"),
    )


def _has(trt: Any, path: str) -> bool:
    found = trt
    for name in path.split("."):
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True
