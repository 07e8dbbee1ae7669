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
    timing_cache: bool  # measured kernels can be kept for the next build; TensorRT-RTX measures none when it builds
    progress_monitor: bool
    stream_writer: bool  # an engine can be written while it is serialised, without a copy of it in memory
    stream_reader: bool  # an engine can be read from a file without a copy of it in memory
    load_initializer: bool  # the parser takes weights from memory that belongs to the caller
    kv_cache_update: bool
    attention: bool
    key_value_lengths: bool  # an attention can be told how much of its cache is filled
    aliased_outputs: bool  # an engine says which output lies where an input does
    runtime_config: bool  # an execution context takes its settings as one object
    runtime_cache: bool  # kernels compiled on the device can be kept for the next start
    cuda_graph_strategy: bool  # an execution context captures its own CUDA graphs
    stream_capturable: bool  # an execution context says whether its stream can be captured
    engine_validity: bool  # whether an engine suits this machine, before it is read
    tactic_memory_pools: bool  # the memory that kernels under trial may take can be limited, too


def capabilities_of(trt: Any, *, ahead_of_time: bool, version: tuple[int, ...]) -> Capabilities:
    """Ask the module `trt`; `ahead_of_time` tells TensorRT-RTX (`version` 1.x) from TensorRT (10.x, 11.x)."""
    caches_in_place = _has(trt, "INetworkDefinition.add_kv_cache_update")
    modern = caches_in_place and (ahead_of_time or version >= MODERN_TENSORRT)
    return Capabilities(
        dialect=DIALECT if modern else CONSERVATIVE_DIALECT,
        builds_ahead=_has(trt, "IBuilderConfig.set_compute_capability"),
        strongly_typed_flag=_has(trt, "BuilderFlag.FP16"),
        timing_cache=_has(trt, "IBuilderConfig.set_timing_cache") and not ahead_of_time,
        progress_monitor=_has(trt, "IProgressMonitor"),
        stream_writer=_has(trt, "IStreamWriter") and _has(trt, "Builder.build_serialized_network_to_stream"),
        stream_reader=_has(trt, "IStreamReaderV2"),
        load_initializer=_has(trt, "OnnxParser.load_initializer"),
        kv_cache_update=caches_in_place,
        attention=_has(trt, "INetworkDefinition.add_attention"),
        key_value_lengths=_has(trt, "IAttention.key_value_lengths"),
        aliased_outputs=_has(trt, "ICudaEngine.get_aliased_input_tensor"),
        runtime_config=_has(trt, "ICudaEngine.create_runtime_config"),
        runtime_cache=_has(trt, "IRuntimeConfig.create_runtime_cache"),
        cuda_graph_strategy=_has(trt, "IRuntimeConfig.cuda_graph_strategy"),
        stream_capturable=_has(trt, "IExecutionContext.is_stream_capturable"),
        engine_validity=_has(trt, "Runtime.get_engine_validity"),
        tactic_memory_pools=_has(trt, "MemoryPoolType.TACTIC_DRAM"),
    )


def _has(trt: Any, path: str) -> bool:
    found = trt
    for name in path.split("."):
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True
