"""A TensorRT that builds nothing: a stand-in with one release's names that writes down how it is driven.

What its parser finds in a graph is what the test says. Methods get behaviour only where the release has them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from phiedge.engines.tensorrt.ports import Port, Ports
from tensorrt_surfaces import stand_in, surface

NO_MEASUREMENTS = b"measured nothing"


class HostMemory(bytearray):
    """As TensorRT hands back bytes: a buffer that knows its size."""

    @property
    def nbytes(self) -> int:
        return len(self)


@dataclass(kw_only=True)
class Recorded:
    """A stand-in, and what was asked of it. `knows` is the timing cache that it accepts; `fails` builds nothing."""

    name: str
    ports: Ports
    attentions: int = 0
    caches: int = 0
    operands: int = 4
    knows: bytes = b""
    fails: str | None = None
    says: Sequence[str] = ()
    engine: bytes = b"an engine"
    network_flags: list[int] = field(default_factory=list)
    profiles: list[dict[str, tuple[tuple[int, ...], ...]]] = field(default_factory=list)
    pools: dict[str, int] = field(default_factory=dict)
    timing_caches: list[bytes] = field(default_factory=list)
    configs: list[Any] = field(default_factory=list)

    def module(self) -> ModuleType:
        """The module, to be imported as `tensorrt`."""
        self.trt = stand_in(self.name)
        recorded = surface(self.name)
        for path, does in self._behaviour().items():
            if recorded.has(path):
                owner, _, member = path.partition(".")
                setattr(vars(self.trt)[owner], member, _method(does))
        self.trt.Builder.__init__ = lambda builder, log: object.__setattr__(builder, "_log", log)
        return self.trt

    def _behaviour(self) -> dict[str, Any]:
        return {
            "Builder.create_network": self._network,
            "Builder.create_builder_config": self._config,
            "Builder.create_optimization_profile": lambda builder: self.trt.IOptimizationProfile(),
            "Builder.build_serialized_network": self._build,
            "IOptimizationProfile.set_shape": self._set_shape,
            "IBuilderConfig.add_optimization_profile": lambda config, profile: len(self.profiles) - 1,
            "IBuilderConfig.set_memory_pool_limit": lambda config, pool, size: self.pools.update({pool.name: size}),
            "IBuilderConfig.create_timing_cache": self._timing_cache,
            "IBuilderConfig.set_timing_cache": self._set_timing_cache,
            "IBuilderConfig.get_timing_cache": lambda config: self._serialisable(b"measured more"),
            "OnnxParser.parse_from_file": lambda parser, path: True,
        }

    def _network(self, builder: Any, flags: int = 0) -> Any:
        self.network_flags.append(flags)
        network = self.trt.INetworkDefinition()
        inputs = [self._tensor(port) for port in self.ports.inputs]
        outputs = [self._tensor(port) for port in self.ports.outputs]
        layers = [self._layer("ATTENTION_INPUT") for _ in range(self.attentions)]
        layers += [self._layer("KV_CACHE_UPDATE") for _ in range(self.caches)]
        for kind, found in (("input", inputs), ("output", outputs), ("layer", layers)):
            setattr(network, f"num_{kind}s", len(found))
            setattr(network, f"get_{kind}", found.__getitem__)
        return network

    def _tensor(self, port: Port) -> Any:
        types = {"float16": self.trt.float16, "float32": self.trt.float32, "int64": self.trt.int64}
        tensor = self.trt.ITensor()
        tensor.name, tensor.shape, tensor.dtype = port.name, port.shape, types[port.dtype]
        return tensor

    def _layer(self, kind: str) -> Any:
        layer = self.trt.ILayer()
        layer.type, layer.name = self.trt.LayerType[kind], kind.lower()
        layer.num_inputs = self.operands
        layer.get_input = lambda index: object()
        return layer

    def _config(self, builder: Any) -> Any:
        self.configs.append(self.trt.IBuilderConfig())
        return self.configs[-1]

    def _set_shape(self, profile: Any, name: str, *sizes: tuple[int, ...]) -> None:
        if not hasattr(profile, "_seen"):
            object.__setattr__(profile, "_seen", {})
            self.profiles.append(vars(profile)["_seen"])
        vars(profile)["_seen"][name] = tuple(tuple(size) for size in sizes)

    def _timing_cache(self, config: Any, data: bytes) -> Any:
        return self._serialisable(bytes(data))

    def _serialisable(self, data: bytes) -> Any:
        cache = self.trt.ITimingCache()
        cache.serialize = lambda: HostMemory(data)
        return cache

    def _set_timing_cache(self, config: Any, cache: Any, ignore_mismatch: bool) -> bool:
        data = bytes(cache.serialize())
        if data not in (b"", self.knows) or ignore_mismatch:
            return False
        self.timing_caches.append(data)
        return True

    def _build(self, builder: Any, network: Any, config: Any) -> Any:
        log = vars(builder)["_log"]
        for line in self.says:
            log.log(self.trt.ILogger.Severity.VERBOSE, line)
        if self.fails is not None:
            log.log(self.trt.ILogger.Severity.ERROR, self.fails)
            return None
        monitor = config.progress_monitor
        monitor.phase_start("build", None, 2)
        assert monitor.step_complete("build", 0)
        monitor.phase_finish("build")
        return HostMemory(self.engine)


def _method(does: Callable[..., Any]) -> Callable[..., Any]:
    """A method that does it: it gets the object that it is called on first."""
    return lambda this, *arguments, **options: does(this, *arguments, **options)
