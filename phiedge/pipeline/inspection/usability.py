"""Why an engine of a bundle could not be used on this machine, found out without opening it and without a GPU.

It asks what opening would ask: whether the graphs are still those that it was made from, which release of the library
is here, and which processor or GPU. What only the engine itself knows, opening finds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from phiedge.bundle import Bundle
from phiedge.engines.edge_llm.built import BACKEND as EDGE_BACKEND
from phiedge.engines.edge_llm.built import CHECKS
from phiedge.engines.engine_record import BuiltEngine, check_engine
from phiedge.engines.tensorrt.built import check_usable, engine_sms
from phiedge.engines.tensorrt.library import LIBRARIES, load_library, require_driver
from phiedge.engines.tensorrt.pycuda_memory import load_pycuda
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
        return _failing(engine, bundle, _check_made_from, _check_library, _check_pycuda, _check_gpu)
    if backend == "onnxruntime":
        return _failing(engine, bundle, _check_onnxruntime)
    if backend == EDGE_BACKEND:
        return _failing(engine, bundle, _check_made_from, _refuse_edge_llm)
    return (Obstacle(message=f"this phiedge has no engines of the backend {backend!r}", remedy="upgrade phiedge"),)


def _failing(
    engine: BuiltEngine, bundle: Bundle, *checks: Callable[[BuiltEngine, Bundle], None]
) -> tuple[Obstacle, ...]:
    """What the checks raise, each thing once."""
    found = [_outcome(check, engine, bundle) for check in checks]
    return tuple(dict.fromkeys(obstacle for obstacle in found if obstacle is not None))


def _outcome(check: Callable[[BuiltEngine, Bundle], None], engine: BuiltEngine, bundle: Bundle) -> Obstacle | None:
    try:
        check(engine, bundle)
    except PhiEdgeError as error:
        return Obstacle(message=error.message, remedy=error.remedy)
    return None


def _check_made_from(engine: BuiltEngine, bundle: Bundle) -> None:
    check_engine(engine, bundle, tools=engine.record.tools, machine=engine.record.machine)


def _refuse_edge_llm(engine: BuiltEngine, bundle: Bundle) -> None:
    raise DeviceError(
        f"{engine.path} is what TensorRT Edge-LLM builds engines from on a Jetson; phiedge does not run it",
        remedy=f"copy it there, and run the commands in its {CHECKS}",
    )


def _check_onnxruntime(engine: BuiltEngine, bundle: Bundle) -> None:
    from phiedge.engines.onnxruntime.built import machine, tools

    check_engine(engine, bundle, tools=tools(), machine=machine())


def _check_library(engine: BuiltEngine, bundle: Bundle) -> None:
    check_usable(engine, bundle, load_library(engine.record.backend))


def _check_pycuda(engine: BuiltEngine, bundle: Bundle) -> None:
    if find_spec("pycuda") is None:  # where it is there, importing it would need the driver
        load_pycuda()


def _check_gpu(engine: BuiltEngine, bundle: Bundle) -> None:
    gpu, sms = require_driver(load_library(engine.record.backend)), engine_sms(engine)
    if gpu.sm not in sms:
        raise DeviceError(
            f"the engine {engine.path} was built for SM {', '.join(map(str, sms))}; {gpu.name} is SM {gpu.sm}",
            remedy=f"phiedge build {bundle.path} --backend {engine.record.backend}",
        )
