"""What an engine says that it takes and gives, held against what the bundle's manifest says of the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from phiedge.engines.tensorrt.ports import ANY, Port, Ports
from phiedge.errors import BundleError

Shape: TypeAlias = tuple[int, ...]
# The three shapes of a profile: smallest, usual, largest.
ShapeRange: TypeAlias = tuple[Shape, Shape, Shape]

_DTYPES = {"HALF": "float16", "FLOAT": "float32", "INT64": "int64"}  # TensorRT's names of what engines take and give
_REMEDY = "build the engine again: phiedge build"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One input or output; a side that is chosen with every run is -1. Inputs have a range of shapes by profile."""

    name: str
    is_input: bool
    dtype: str
    shape: Shape
    profiles: tuple[ShapeRange, ...]


def read_bindings(engine: Any, trt: Any, path: Path) -> dict[str, Binding]:
    """All inputs and outputs of an opened engine, by name. Raises `BundleError` for one that must be on the host."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    for name in names:
        if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
            raise BundleError(f"{path} wants {name} on the host; phiedge binds memory of the device", remedy=_REMEDY)
    return {name: _read(engine, trt, name) for name in names}


def check_bindings(path: Path, bindings: Mapping[str, Binding], ports: Ports) -> None:
    """Raises `BundleError` naming what the engine has and what the model's facts need, where they differ."""
    for kind, is_input, wanted in (("input", True, ports.inputs), ("output", False, ports.outputs)):
        found = {name: binding for name, binding in bindings.items() if binding.is_input == is_input}
        missing, added = _without(found, wanted)
        if missing or added:
            raise mismatch(path, f"the {kind}s {_few(added)} beside others", f"{_few(missing)}")
        for port in wanted:
            binding = found[port.name]
            if (binding.dtype, binding.shape) != (port.dtype, port.shape):
                raise mismatch(path, _described(binding.name, binding), _described(port.name, port))


def profile_sizes(path: Path, bindings: Mapping[str, Binding], ports: Ports) -> list[tuple[int, int]]:
    """The smallest and the largest size of the side that is chosen with every run, for each profile.

    Raises `BundleError` where two inputs have different ones.
    """
    dynamic = [port for port in ports.inputs if ANY in port.shape]
    sizes = [[_sizes(shapes, port) for shapes in bindings[port.name].profiles] for port in dynamic]
    for port, found in zip(dynamic, sizes, strict=True):
        if found != sizes[0]:
            raise mismatch(path, f"{port.name} of {found}", f"{dynamic[0].name}'s {sizes[0]}")
    return sizes[0]


def mismatch(path: Path, found: str, wanted: str) -> BundleError:
    """The error for an engine that is not the one that the manifest describes."""
    return BundleError(
        f"{path} does not go with the manifest: the engine has {found}, the model's facts need {wanted}",
        remedy=_REMEDY,
    )


def _read(engine: Any, trt: Any, name: str) -> Binding:
    is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
    count = engine.num_optimization_profiles if is_input else 0
    kind = engine.get_tensor_dtype(name).name
    return Binding(
        name=name,
        is_input=is_input,
        dtype=_DTYPES.get(kind, kind),
        shape=tuple(engine.get_tensor_shape(name)),
        profiles=tuple(_range(engine.get_tensor_profile_shape(name, profile)) for profile in range(count)),
    )


def _range(shapes: Sequence[Sequence[int]]) -> ShapeRange:
    smallest, usual, largest = (tuple(shape) for shape in shapes)
    return smallest, usual, largest


def _sizes(shapes: ShapeRange, port: Port) -> tuple[int, int]:
    side = port.shape.index(ANY)
    return shapes[0][side], shapes[2][side]


def _without(found: Mapping[str, Binding], wanted: Sequence[Port]) -> tuple[list[str], list[str]]:
    names = [port.name for port in wanted]
    return [name for name in names if name not in found], [name for name in found if name not in names]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "none"


def _described(name: str, one: Binding | Port) -> str:
    return f"{name} {list(one.shape)} in {one.dtype}"
