"""One engine file in TensorRT's runtime, and the execution contexts that are made of it.

A context computes one profile. The memory that its kernels work in is given to it (`USER_MANAGED`), so that all
contexts of a session share one piece: they never run at the same time. What a context is bound to never changes after
it was made, but for the shape of a picture.
"""

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiedge.engines.tensorrt.bindings import Binding, Shape, read_bindings
from phiedge.engines.tensorrt.device_memory import DeviceMemory, aligned
from phiedge.engines.tensorrt.engine_log import EngineLog
from phiedge.engines.tensorrt.library import Library
from phiedge.engines.tensorrt.runtime_cache import RuntimeCacheFile
from phiedge.errors import BundleError, SessionError

_REMEDY = "check the bundle: phiedge verify; or build the engine again: phiedge build"


class LoadedEngine:
    """An engine on the device. `kept` is where TensorRT-RTX keeps what it compiles; None for others."""

    def __init__(self, library: Library, path: Path, *, kept: RuntimeCacheFile | None) -> None:
        self.library, self.path = library, path
        self._log = EngineLog(library.trt)
        self._runtime = library.trt.Runtime(self._log.listener)
        self._cuda_engine = self._deserialised()
        self.bindings: dict[str, Binding] = read_bindings(self._cuda_engine, library.trt, path)
        self._kept = kept
        self._cache: Any = None
        self._cache_config: Any = None

    def scratch_bytes(self, profile: int) -> int:
        """What the kernels of a profile need to work in."""
        return aligned(int(self._cuda_engine.get_device_memory_size_for_profile_v2(profile)))

    @property
    def profiles(self) -> int:
        """How many profiles it has."""
        return int(self._cuda_engine.num_optimization_profiles)

    def check_in_place(self, pairs: Mapping[str, str]) -> None:
        """Raises `BundleError` where an output of `pairs` does not lie where the input beside it does."""
        if not self.library.capabilities.aliased_outputs:
            return
        for output, wanted in pairs.items():
            found = self._cuda_engine.get_aliased_input_tensor(output)
            if found != wanted:
                raise BundleError(
                    f"{self.path} writes {output} {f'over {found}' if found else 'into memory of its own'}; the cache "
                    f"needs it over {wanted}",
                    remedy=_REMEDY,
                )

    def context(self, *, records: bool = False, varies: bool = False) -> Any:
        """A new execution context without memory to work in.

        `records`: it replays its work as a CUDA graph, where the library does so itself. `varies`: its shapes change
        between runs; else all that can be compiled for its one shape is compiled before it first runs.
        """
        strategy = self.library.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self.library.capabilities.runtime_cache:
            context = self._cuda_engine.create_execution_context(self._config(strategy, records=records, varies=varies))
        else:
            context = self._cuda_engine.create_execution_context(strategy)
        if context is None:
            raise self.failed("makes no execution context")
        return context

    def keep_compiled(self) -> None:
        """Keep what was compiled for the next start, where the library lets it."""
        if self._kept is not None and self._cache is not None:
            self._kept.keep(self._cache)

    def failed(self, what: str) -> SessionError:
        """The error for what the library refuses, with its own words."""
        return SessionError(
            f"{self.path.name} {what}: {self._log.told()}",
            remedy="build the engine again: phiedge build; or compute on the CPU: --backend onnxruntime",
        )

    def close(self) -> None:
        """Let go of the engine, after all of its contexts."""
        del self._cache, self._cache_config, self._cuda_engine, self._runtime

    def _deserialised(self) -> Any:
        """Read from a mapped file: its pages go back to the system once the weights are on the device."""
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            engine = self._runtime.deserialize_cuda_engine(mapped)
        if engine is None:
            raise BundleError(
                f"{self.library.backend} {self.library.version} cannot open {self.path}: {self._log.told()}",
                remedy=_REMEDY,
            )
        return engine

    def _config(self, strategy: Any, *, records: bool, varies: bool) -> Any:
        trt = self.library.trt
        config = self._cuda_engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        graphs, kernels = trt.CudaGraphStrategy, trt.DynamicShapesKernelSpecializationStrategy
        config.cuda_graph_strategy = graphs.WHOLE_GRAPH_CAPTURE if records else graphs.DISABLED
        # LAZY would compile in the background and change kernels, and last digits, between two equal requests.
        config.dynamic_shapes_kernel_specialization_strategy = kernels.NONE if varies else kernels.EAGER
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            self._cache_config = config  # the cache was made by it
            if self._kept is not None:
                self._kept.load_into(self._cache)
        if not config.set_runtime_cache(self._cache):
            raise self.failed("takes no cache of compiled kernels")
        return config


class Execution:
    """An execution context with its profile, its memory and its addresses, ready to be enqueued."""

    def __init__(
        self,
        engine: LoadedEngine,
        memory: DeviceMemory,
        *,
        profile: int,
        scratch: int,
        scratch_bytes: int,
        records: bool = False,
        varies: bool = False,
    ) -> None:
        self._engine, self._stream = engine, memory.stream
        self._context = engine.context(records=records, varies=varies)
        self._must(self._context.set_optimization_profile_async(profile, self._stream), f"has no profile {profile}")
        memory.synchronise()
        self._context.set_device_memory(scratch, scratch_bytes)

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Where each input and output lies."""
        for name, address in addresses.items():
            self._must(self._context.set_tensor_address(name, address), f"does not take an address for {name}")

    def shape(self, shapes: Mapping[str, Shape]) -> None:
        """The shape of each input that has a side which is chosen with every run."""
        for name, shape in shapes.items():
            self._must(self._context.set_input_shape(name, shape), f"does not take {name} {list(shape)}")
        missing = self._context.infer_shapes()
        self._must(not missing, f"lacks the shape of {', '.join(missing)}")

    @property
    def records_itself(self) -> bool:
        """Whether the library says that it records what this context does."""
        return bool(self._context.is_stream_capturable(self._stream))

    def enqueue(self) -> None:
        """Put one run onto the stream. Raises `SessionError` in the library's words."""
        self._must(self._context.execute_async_v3(self._stream), "does not run")

    def close(self) -> None:
        """Let go of the context, before its engine."""
        del self._context

    def _must(self, holds: object, what: str) -> None:
        if not holds:
            raise self._engine.failed(what)
