"""What to change where a plan does not fit its device or its deadline, each change tried before it is named."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from phiedge.devices.catalogue import catalogue
from phiedge.devices.planning.plan import Plan, make_plan
from phiedge.devices.planning.storage import Storage
from phiedge.devices.spec import Device
from phiedge.errors import DeviceError

_MOST_DEVICES = 3
_LEAST_ANSWER = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change that makes the plan feasible, and the time that is then planned."""

    what: str
    planned_ms: float


def changes(plan: Plan, other_storages: Iterable[Storage], storage_for: Callable[[Device], Storage]) -> list[Change]:
    """What would do, each on its own; empty for a plan that is feasible already.

    `other_storages` are the precisions to try on the device; `storage_for` is the precision of another device.
    """
    if plan.feasible:
        return []
    found = [_smaller_context(plan), _fewer_patches(plan), _shorter_answer(plan)]
    found += [_other_precision(plan, storage) for storage in other_storages if storage.name != plan.storage.name]
    return [change for change in found if change is not None] + _other_devices(plan, storage_for)


def _smaller_context(plan: Plan) -> Change | None:
    """Only where memory is what is wrong."""
    context = min(plan.memory.largest_context, plan.task.facts.max_position_embeddings)
    if plan.memory.fits or context < plan.task.request.positions:
        return None
    smaller = plan.with_context(context)
    return (
        Change(what=f"--max-context {context}", planned_ms=smaller.time.total.planned_ms) if smaller.feasible else None
    )


def _fewer_patches(plan: Plan) -> Change | None:
    """The most visual tokens of a picture with which the answer is planned to be in time."""
    patches, least = plan.task.request.patches, plan.task.facts.min_num_patches

    def capped(most: int) -> Plan:
        return plan.with_request(replace(plan.task.request, patches=tuple(min(most, count) for count in patches)))

    if not plan.memory.fits or not patches or max(patches) <= least:
        return None
    most = _largest(least, max(patches), lambda count: capped(count).feasible)
    if most is None:
        return None
    return Change(what=f"pictures of at most {most} visual tokens", planned_ms=capped(most).time.total.planned_ms)


def _shorter_answer(plan: Plan) -> Change | None:
    """The longest answer that is planned to be in time."""

    def cut(tokens: int) -> Plan:
        return plan.with_request(replace(plan.task.request, answer_tokens=tokens))

    if not plan.memory.fits:
        return None
    tokens = _largest(_LEAST_ANSWER, plan.task.request.answer_tokens, lambda count: cut(count).feasible)
    return (
        None
        if tokens is None
        else Change(what=f"--answer-tokens {tokens}", planned_ms=cut(tokens).time.total.planned_ms)
    )


def _other_precision(plan: Plan, storage: Storage) -> Change | None:
    other = _planned(plan, plan.device, lambda device: storage)
    if other is None or not other.feasible:
        return None
    return Change(what=f"--precision {storage.name}", planned_ms=other.time.total.planned_ms)


def _other_devices(plan: Plan, storage_for: Callable[[Device], Storage]) -> list[Change]:
    """The slowest that are fast enough, and of the same kind first: a robot has no slot for a card."""
    plans = [_planned(plan, device, storage_for) for device in catalogue() if device.sm is not None]
    fitting = [other for other in plans if other is not None and other.feasible and other.device != plan.device]
    kind = plan.device.kind
    slowest_first = sorted(fitting, key=lambda other: (other.device.kind != kind, -other.time.total.planned_ms))
    return [
        Change(what=f"--target {other.device.name}", planned_ms=other.time.total.planned_ms)
        for other in slowest_first[:_MOST_DEVICES]
    ]


def _planned(plan: Plan, device: Device, storage_for: Callable[[Device], Storage]) -> Plan | None:
    """None where the device lacks the precision, or nothing is known of how fast it would be."""
    try:
        return make_plan(device, storage_for(device), plan.task)
    except DeviceError:
        return None


def _largest(least: int, most: int, does: Callable[[int], bool]) -> int | None:
    """The largest number from `least` to `most` that does, if more never does what less does not."""
    if most < least or not does(least):
        return None
    low, high = least, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if does(middle) else (low, middle - 1)
    return low
