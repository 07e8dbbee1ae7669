"""Every name of TensorRT that phiedge uses exists in each release that it may run on, as these were recorded."""

import ast
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest

import phiedge.engines.tensorrt
from phiedge.engines.tensorrt.capabilities import DIALECT, capabilities_of
from tensorrt_surfaces import RTX, SURFACES, Surface, stand_in, surface

MODULES = sorted(Path(phiedge.engines.tensorrt.__file__).parent.glob("*.py"))

# Names that not every release has, and the flag of `Capabilities` behind which alone they are used.
BEHIND = {
    "ComputeCapability": "builds_ahead",
    "IBuilderConfig.num_compute_capabilities": "builds_ahead",
    "IBuilderConfig.set_compute_capability": "builds_ahead",
    "LayerType.ATTENTION_INPUT": "modern dialect",
    "LayerType.KV_CACHE_UPDATE": "modern dialect",
    "ICudaEngine.get_aliased_input_tensor": "aliased_outputs",
    "ICudaEngine.create_runtime_config": "runtime_cache",
    "IRuntimeConfig.set_execution_context_allocation_strategy": "runtime_cache",
    "DynamicShapesKernelSpecializationStrategy": "runtime_cache",
    "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy": "runtime_cache",
    "IRuntimeConfig.create_runtime_cache": "runtime_cache",
    "IRuntimeConfig.set_runtime_cache": "runtime_cache",
    "CudaGraphStrategy": "cuda_graph_strategy",
    "IRuntimeConfig.cuda_graph_strategy": "cuda_graph_strategy",
    "IExecutionContext.is_stream_capturable": "cuda_graph_strategy",
}
# What a name, or what it is made by, is an object of.
OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "runtime": "Runtime",
    "cuda_engine": "ICudaEngine",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "runtime_config": "IRuntimeConfig",
    "profile": "IOptimizationProfile",
}
# What an attribute of our own classes holds, whichever method put it there.
ATTRIBUTES = {
    "self._cuda_engine": "ICudaEngine",
    "self._context": "IExecutionContext",
    "self._runtime": "Runtime",
}
MADE_BY = {
    "Builder": "Builder",
    "OnnxParser": "OnnxParser",
    "Runtime": "Runtime",
    "create_network": "INetworkDefinition",
    "create_builder_config": "IBuilderConfig",
    "create_optimization_profile": "IOptimizationProfile",
    "deserialize_cuda_engine": "ICudaEngine",
    "create_execution_context": "IExecutionContext",
    "create_runtime_config": "IRuntimeConfig",
    "create_timing_cache": "ITimingCache",
    "get_timing_cache": "ITimingCache",
    "create_engine_inspector": "EngineInspector",
}


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` as text."""
    if isinstance(node, ast.Name):
        return node.id
    owner = dotted(node.value) if isinstance(node, ast.Attribute) else None
    return None if owner is None or not isinstance(node, ast.Attribute) else f"{owner}.{node.attr}"


def of_the_module(tree: ast.AST) -> Iterator[str]:
    """`X.Y` for every `trt.X.Y`, also where the module is reached through `library.trt`."""
    for node in ast.walk(tree):
        path = dotted(node) if isinstance(node, ast.Attribute) else None
        head, found, names = (path or "").rpartition("trt.")
        if found and (head == "" or head.endswith(".")):
            yield names if names.startswith("ILogger.Severity") else ".".join(names.split(".")[:2])


def of_its_objects(tree: ast.AST) -> Iterator[str]:
    """`Class.member` for every use of a member of an object whose making can be seen in the same function or class."""
    for scope in ast.walk(tree):
        if not isinstance(scope, (ast.FunctionDef, ast.ClassDef)):
            continue
        made = {name: kind for name, kind in assigned(scope) if isinstance(scope, ast.FunctionDef) or "." in name}
        for node in ast.walk(scope):
            kind = made.get(dotted(node.value) or "") if isinstance(node, ast.Attribute) else None
            if isinstance(node, ast.Attribute) and kind is not None:
                yield f"{kind}.{node.attr}"


def assigned(scope: ast.FunctionDef | ast.ClassDef) -> Iterator[tuple[str, str]]:
    """The names in a function or class that hold an object of TensorRT's (`engine`, `self._engine`), and its class."""
    for function in (node for node in ast.walk(scope) if isinstance(node, ast.FunctionDef)):
        for argument in (*function.args.args, *function.args.kwonlyargs):
            is_any = isinstance(argument.annotation, ast.Name) and argument.annotation.id == "Any"
            if is_any and argument.arg in OBJECTS:
                yield argument.arg, OBJECTS[argument.arg]
    if isinstance(scope, ast.ClassDef):
        yield from ATTRIBUTES.items()
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            maker, name = (dotted(node.value.func) or "").rpartition(".")[2], dotted(node.targets[0])
            if maker in MADE_BY and name is not None:
                yield name, MADE_BY[maker]


@cache
def used() -> dict[str, set[str]]:
    """Every name of TensorRT's that a module of ours uses, with the modules that do."""
    found: dict[str, set[str]] = {}
    for path in MODULES:
        tree = ast.parse(path.read_text())
        for name in (*of_the_module(tree), *of_its_objects(tree)):
            if "__" not in name:  # every class has those
                found.setdefault(name, set()).add(path.name)
    return found


def flags(name: str, recorded: Surface) -> dict[str, bool]:
    """What a release can do, by flag; the dialect is one of them."""
    version = tuple(int(part) for part in recorded.version.split(".")[:2])
    found = capabilities_of(stand_in(name), ahead_of_time=name == RTX, version=version)
    return {**asdict(found), "modern dialect": found.dialect == DIALECT}


def behind(name: str) -> str | None:
    """The flag that a name is used behind: its own, or its class's."""
    return BEHIND.get(name) or BEHIND.get(name.partition(".")[0])


@pytest.mark.parametrize("name", SURFACES)
def test_every_name_that_is_used_exists_where_it_may_be_used(name: str) -> None:
    recorded = surface(name)
    can = flags(name, recorded)
    missing = {
        used_name: sorted(modules)
        for used_name, modules in used().items()
        if not recorded.has(used_name) and (behind(used_name) is None or can[behind(used_name) or ""])
    }
    assert missing == {}


@pytest.mark.parametrize("name", SURFACES)
def test_a_flag_promises_the_names_that_are_used_behind_it(name: str) -> None:
    recorded = surface(name)
    can = flags(name, recorded)
    assert [path for path, flag in BEHIND.items() if can[flag] and not recorded.has(path)] == []


def test_every_name_behind_a_flag_is_used() -> None:
    assert set(BEHIND) - set(used()) == set()


@pytest.mark.parametrize("name", sorted(BEHIND))
def test_a_name_behind_a_flag_is_one_that_some_release_lacks(name: str) -> None:
    assert not all(surface(release).has(name) for release in SURFACES)


def test_uses_are_found_in_source() -> None:
    source = """
def build(library: Any, network: Any, log: Log) -> None:
    trt = library.trt
    builder = trt.Builder(log)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if library.trt.ILogger.Severity.ERROR: network.get_layer(0)

class Loaded:
    def __init__(self, runtime: Any) -> None:
        self._engine = runtime.deserialize_cuda_engine(b"")

    def size(self) -> int:
        return self._engine.num_layers
"""
    tree = ast.parse(source)
    assert {*of_the_module(tree), *of_its_objects(tree)} == {
        "Builder",
        "ProfilingVerbosity",
        "ProfilingVerbosity.DETAILED",
        "ILogger",
        "ILogger.Severity",
        "ILogger.Severity.ERROR",
        "Builder.create_builder_config",
        "IBuilderConfig.profiling_verbosity",
        "INetworkDefinition.get_layer",
        "Runtime.deserialize_cuda_engine",
        "ICudaEngine.num_layers",
    }
