"""A TensorRT whose engines are ONNX graphs, run by ONNX Runtime on memory of a `RecordedMemory`.

It has the names of one recorded release and no other, so that what uses a name which that release lacks fails here as
it would there. An "engine" is a file that names its graph and its profiles (`write_engine`). It refuses what TensorRT
refuses, in words on its logger and a False or a None.
"""

import enum
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort

from ort_graphs import open_graph
from phiedge.engines.tensorrt.capabilities import capabilities_of
from phiedge.engines.tensorrt.device_memory import ALIGNMENT_BYTES
from phiedge.engines.tensorrt.library import RTX_BACKEND, TENSORRT_BACKEND, Library
from recorded_device import RecordedMemory
from tensorrt_surfaces import RTX, stand_in, surface

SCRATCH_BYTES = 1000  # of profile 0; other profiles want more
_TYPES = {"tensor(float16)": "HALF", "tensor(float)": "FLOAT", "tensor(int64)": "INT64"}
_NUMPY = {"HALF": np.float16, "FLOAT": np.float32, "INT64": np.int64}


def write_engine(path: Path, graph: Path, *, profiles: Sequence[Sequence[int]]) -> None:
    """An engine of `graph`; a profile is the smallest, the usual and the largest size of the side that varies."""
    path.write_text(json.dumps({"graph": str(graph), "profiles": [list(sizes) for sizes in profiles]}))


def library(release: str = RTX) -> Library:
    """The stand-in of one release as `load_library` gives it; faults and calls are kept in its module."""
    trt, version = runtime_module(release), surface(release).version
    number = tuple(int(part) for part in version.split(".")[:2])
    return Library(
        backend=RTX_BACKEND if release == RTX else TENSORRT_BACKEND,
        trt=trt,
        version=version,
        capabilities=capabilities_of(trt, ahead_of_time=release == RTX, version=number),
    )


def runtime_module(release: str) -> ModuleType:
    """The module of one release, with a runtime that runs."""
    module = stand_in(release)
    vars(module)["faults"] = {}  # "deserialize", "execute", "context" or "capture": what goes wrong there
    vars(module)["configs"] = []  # every runtime config that was made
    known = surface(release)
    for made in (_runtime(module), *_caching(module, known.has("IRuntimeConfig.create_runtime_cache"))):
        base = made.__mro__[1].__name__
        strange = [name for name in vars(made) if not name.startswith("_") and not known.has(f"{base}.{name}")]
        assert not strange, f"{release} has no {strange} in {base}"
        vars(module)[made.__name__] = made
    return module


@cache
def _session(graph: str) -> ort.InferenceSession:
    return open_graph(Path(graph))


def _runtime(module: Any) -> type:
    class Runtime(module.Runtime):
        def __init__(self, logger: Any) -> None:
            assert isinstance(logger, module.ILogger)
            self._logger = logger

        def deserialize_cuda_engine(self, serialized: Any) -> Any:
            read, fault = bytes(serialized), module.faults.get("deserialize")
            if fault or not read.startswith(b"{"):
                self._logger.log(module.ILogger.Severity.INFO, "looking at an engine")
                self._logger.log(module.ILogger.Severity.ERROR, fault or "the magic number does not match\nat all")
                return None
            return _engine_class(module)(self._logger, json.loads(read))

    return Runtime


def _engine_class(module: Any) -> type:
    modes, has_aliases = module.TensorIOMode, hasattr(module.ICudaEngine, "get_aliased_input_tensor")

    class Engine(module.ICudaEngine):
        def __init__(self, logger: Any, told: dict[str, Any]) -> None:
            self._logger, self._profiles = logger, told["profiles"]
            self._session = _session(told["graph"])
            self._inputs = {port.name: port for port in self._session.get_inputs()}
            self._ports = self._inputs | {port.name: port for port in self._session.get_outputs()}
            self._in_use: set[int] = set()

        @property
        def num_io_tensors(self) -> int:
            return len(self._ports)

        @property
        def num_optimization_profiles(self) -> int:
            return len(self._profiles)

        def get_tensor_name(self, index: int) -> str:
            return list(self._ports)[index]

        def get_tensor_mode(self, name: str) -> enum.IntEnum:
            return modes.INPUT if name in self._inputs else modes.OUTPUT

        def get_tensor_location(self, name: str) -> enum.IntEnum:
            return module.faults.get("location", module.TensorLocation.DEVICE)

        def get_tensor_dtype(self, name: str) -> enum.IntEnum:
            return module.DataType[_TYPES[self._ports[name].type]]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return tuple(side if isinstance(side, int) else -1 for side in self._ports[name].shape)

        def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
            shape = self.get_tensor_shape(name)
            return [tuple(size if side == -1 else side for side in shape) for size in self._profiles[profile]]

        def get_device_memory_size_for_profile_v2(self, profile: int) -> int:
            return SCRATCH_BYTES * (1 + profile)

        def create_execution_context(self, chosen: Any) -> Any:
            managed = module.ExecutionContextAllocationStrategy.USER_MANAGED
            strategy = (
                chosen if isinstance(chosen, enum.IntEnum) else chosen.get_execution_context_allocation_strategy()
            )
            assert strategy == managed
            return None if "context" in module.faults else _context_class(module)(self)

    if has_aliases:

        def get_aliased_input_tensor(self: Any, name: str) -> str | None:
            aliases: dict[str, str | None] = module.faults.get("aliases", {})
            return aliases.get(name, name.replace("present.", "past.") if name.startswith("present.") else None)

        Engine.get_aliased_input_tensor = get_aliased_input_tensor
    if hasattr(module.ICudaEngine, "create_runtime_config"):
        Engine.create_runtime_config = lambda _: module.RuntimeConfig()
    return Engine


def _context_class(module: Any) -> type:
    class Context(module.IExecutionContext):
        def __init__(self, engine: Any) -> None:
            self._of, self._addresses, self._shapes = engine, {}, {}
            self._profile, self._scratch = None, (0, 0)

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            assert profile_index not in self._of._in_use, "a profile is of one context"
            self._of._in_use.add(profile_index)
            self._profile = profile_index
            return profile_index < self._of.num_optimization_profiles

        def set_device_memory(self, memory: int, size: int) -> None:
            assert memory % ALIGNMENT_BYTES == 0
            self._scratch = (memory, size)

        def set_tensor_address(self, name: str, memory: int) -> bool:
            assert memory % ALIGNMENT_BYTES == 0
            self._addresses[name] = memory
            return name in self._of._ports

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            smallest, _, largest = self._of.get_tensor_profile_shape(name, self._profile)
            fits = all(low <= side <= high for low, side, high in zip(smallest, shape, largest, strict=True))
            if fits:
                self._shapes[name] = tuple(shape)
            else:
                self._complain(f"{list(shape)} of {name} is outside of profile {self._profile}")
            return fits

        def infer_shapes(self) -> list[str]:
            return [name for name in self._of._inputs if -1 in self._shape(name)]

        def execute_async_v3(self, stream_handle: int) -> bool:
            memory = RecordedMemory.of(stream_handle)
            needed = self._of.get_device_memory_size_for_profile_v2(self._profile)
            if fault := module.faults.get("execute"):
                self._complain(fault)
                return False
            assert self._scratch[1] >= needed
            assert self._addresses.keys() == self._of._ports.keys()
            memory.at(*self._scratch)
            memory.enqueue(lambda: self._run(memory), kind="execute", name=f"profile {self._profile}")
            return True

        def _run(self, memory: RecordedMemory) -> None:
            feeds = {name: self._array(memory, name, self._shape(name)) for name in self._of._inputs}
            names = [name for name in self._of._ports if name not in feeds]
            for name, value in zip(names, self._of._session.run(names, feeds), strict=True):
                self._array(memory, name, value.shape)[...] = value

        def _shape(self, name: str) -> tuple[int, ...]:
            return self._shapes.get(name, self._of.get_tensor_shape(name))

        def _array(self, memory: RecordedMemory, name: str, shape: tuple[int, ...]) -> np.ndarray:
            dtype = np.dtype(_NUMPY[self._of.get_tensor_dtype(name).name])
            size_bytes = int(np.prod(shape)) * dtype.itemsize
            return memory.at(self._addresses[name], size_bytes).view(dtype).reshape(shape)

        def _complain(self, message: str) -> None:
            self._of._logger.log(module.ILogger.Severity.ERROR, message)

    if hasattr(module.IExecutionContext, "is_stream_capturable"):
        Context.is_stream_capturable = lambda _, stream: "capture" not in module.faults
    return Context


def _caching(module: Any, exists: bool) -> list[type]:
    if not exists:
        return []

    class RuntimeCache(module.IRuntimeCache):
        def __init__(self) -> None:
            self.held = b""

        def deserialize(self, blob: bytes) -> bool:
            accepted = "cache" not in module.faults
            self.held = blob if accepted else self.held
            return accepted

        def serialize(self) -> bytes:
            return self.held or b"compiled here"

    class RuntimeConfig(module.IRuntimeConfig):
        def __init__(self) -> None:
            self._strategy, self._cache = None, None
            module.configs.append(self)

        def set_execution_context_allocation_strategy(self, strategy: enum.IntEnum) -> None:
            self._strategy = strategy

        def get_execution_context_allocation_strategy(self) -> enum.IntEnum:
            return self._strategy

        def create_runtime_cache(self) -> Any:
            return RuntimeCache()

        def set_runtime_cache(self, cache: Any) -> bool:
            self._cache = cache
            return True

        def get_runtime_cache(self) -> Any:
            return self._cache

    RuntimeCache.held = b""
    return [RuntimeConfig]
