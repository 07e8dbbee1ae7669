"""Why an engine of a bundle could not be used on this machine, found out without opening it and without a GPU.

It asks what opening would ask: whether the graphs are still those that it was made from, which release of the library
is here, and which processor or GPU. What only the engine itself knows, opening finds.
"""

from collections.abc import Callable
from dataclasses import dataclass

from phiedge.bundle import Bundle
from phiedge.engines.engine_record import BuiltEngine, check_engine
from phiedge.engines.tensorrt.built import check_usable, engine_sms
from phiedge.engines.tensorrt.library import LIBRARIES, load_library, require_driver
from phiedge.errors import DeviceError, PhiEdgeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """What stands in the way of an engine, and what to do about it."""

    message: str
    remedy: str | None


def obstacles(engine: BuiltEngine, bundle: Bundle) -> tuple[Obstacle, ...]:
    """Everything that stands in the way of `engine` here; empty where nothing was found."""
    backend = engine.record.backend
    if backend in LIBRARIES:
        found = [_failing(lambda: _check_made_from(engine, bundle)), _failing(lambda: _check_tensorrt(engine, bundle))]
        return tuple(dict.fromkeys(obstacle for obstacle in found if obstacle is not None))
    if backend == "onnxruntime":
        obstacle = _failing(lambda: _check_onnxruntime(engine, bundle))
        return () if obstacle is None else (obstacle,)
    return (Obstacle(message=f"this phiedge has no engines of the backend {backend!r}", remedy="upgrade phiedge"),)


def _failing(check: Callable[[], None]) -> Obstacle | None:
    try:
        check()
    except PhiEdgeError as error:
        return Obstacle(message=error.message, remedy=error.remedy)
    return None


def _check_made_from(engine: BuiltEngine, bundle: Bundle) -> None:
    check_engine(engine, bundle, tools=engine.record.tools, machine=engine.record.machine)


def _check_onnxruntime(engine: BuiltEngine, bundle: Bundle) -> None:
    from phiedge.engines.onnxruntime.built import machine, tools

    check_engine(engine, bundle, tools=tools(), machine=machine())


def _check_tensorrt(engine: BuiltEngine, bundle: Bundle) -> None:
    library = load_library(engine.record.backend)
    check_usable(engine, bundle, library)
    gpu, sms = require_driver(library), engine_sms(engine)
    if gpu.sm not in sms:
        raise DeviceError(
            f"it was built for SM {', '.join(map(str, sms))}; {gpu.name} is SM {gpu.sm}",
            remedy=f"phiedge build {bundle.path} --backend {engine.record.backend}",
        )
