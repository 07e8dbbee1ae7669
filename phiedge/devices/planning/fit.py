"""The question that an export asks first: will the bundle fit the device that it is made for?"""

from phiedge.bundle import ModelFacts, Precision
from phiedge.devices.catalogue import catalogue
from phiedge.devices.planning.memory import MemoryPlan, plan_memory
from phiedge.devices.planning.storage import sizes_of, storage_of
from phiedge.devices.spec import Device
from phiedge.errors import DeviceError

_MOST_NAMED = 4


def require_fit(device: Device, facts: ModelFacts, precision: Precision, *, activations: str, max_context: int) -> None:
    """Raise `DeviceError` where `device` cannot hold the model with a cache of `max_context` positions.

    The CPU is passed over: which machine it will be is not known.
    """
    if device.memory_bytes is None:
        return
    sizes = sizes_of(facts, storage_of(precision, activations=activations, facts=facts))
    plan = plan_memory(device, sizes, max_context=max_context)
    if plan.fits:
        return
    larger = [
        other.name
        for other in catalogue()
        if other.memory_bytes is not None and plan_memory(other, sizes, max_context=max_context).fits
    ]
    others = f"--target {', '.join(larger[:_MOST_NAMED])}" if larger else "no device that phiedge knows holds it"
    context = f"--max-context {plan.largest_context}, or " if plan.largest_context >= facts.max_num_patches else ""
    raise DeviceError(
        f"{precision.name} needs {_gb(plan.needed_bytes)} at {max_context} positions ({told(plan)}), {device.name} has "
        f"{_gb(plan.available_bytes)}",
        remedy=f"{context}{others}; `phiedge plan` shows every device",
    )


def told(plan: MemoryPlan) -> str:
    """The parts of what is needed, in words."""
    parts = [f"{_gb(plan.weights_bytes)} of weights"]
    if plan.unified:
        parts.append(f"{_gb(plan.embedding_bytes)} of embeddings")
    parts += [f"{_gb(plan.cache_bytes)} of cache", f"{_gb(plan.workspace_bytes)} of workspace"]
    parts.append(f"{_gb(plan.system_bytes)} {'of the system' if plan.unified else 'kept free'}")
    return ", ".join(parts)


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"
