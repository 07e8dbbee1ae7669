"""A plan: does it fit, how long does it take, is the deadline met, and what would change the answer."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from phiedge.bundle import ModelFacts
from phiedge.devices.planning.memory import MemoryPlan, plan_memory
from phiedge.devices.planning.speeds import speeds_of
from phiedge.devices.planning.storage import Sizes, Storage, sizes_of
from phiedge.devices.planning.time import Request, Span, Speeds, TimePlan, plan_time
from phiedge.devices.spec import Device
from phiedge.errors import ContextLengthError

# In the order of hope: even the most that the evidence expects is in time; what is planned is; only the least is; not
# even that is; and the device's own limit is too late.
Verdict: TypeAlias = Literal["safe", "likely", "unlikely", "late", "impossible"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be planned: a model, what is asked of it, the room to keep, and by when an answer must be there."""

    model: str
    facts: ModelFacts
    request: Request
    max_context: int
    deadline_ms: float | None = None

    def __post_init__(self) -> None:
        request, facts = self.request, self.facts
        if self.max_context > facts.max_position_embeddings:
            raise ContextLengthError(
                f"a context of {self.max_context} tokens was asked, {self.model} has {facts.max_position_embeddings}",
                remedy=f"--max-context {facts.max_position_embeddings} or less",
            )
        if request.positions > self.max_context:
            raise ContextLengthError(
                f"the request takes {request.positions} positions ({request.visual_tokens} of pictures, "
                f"{request.prompt_tokens} of text, {request.answer_tokens} of the answer), the context has "
                f"{self.max_context}",
                remedy="ask for less, or plan a larger --max-context",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The plan of one task on one device. `verdict` is None where no deadline was given."""

    device: Device
    storage: Storage
    sizes: Sizes
    speeds: Speeds
    task: Task
    memory: MemoryPlan
    time: TimePlan

    @property
    def verdict(self) -> Verdict | None:
        return None if self.task.deadline_ms is None else verdict_of(self.time.total, self.task.deadline_ms)

    @property
    def feasible(self) -> bool:
        """Whether it fits, and is planned to be in time."""
        return self.memory.fits and self.verdict in (None, "safe", "likely")

    def with_request(self, request: Request) -> "Plan":
        """The same for another request, which must fit the context."""
        task = replace(self.task, request=request)
        return replace(self, task=task, time=plan_time(task.facts, self.sizes, self.speeds, request))

    def with_context(self, max_context: int) -> "Plan":
        """The same with a cache for `max_context` positions, into which the request must fit."""
        measured = self.memory.available_bytes if self.device.memory_bytes is None else None
        memory = plan_memory(self.device, self.sizes, max_context=max_context, available_bytes=measured)
        return replace(self, task=replace(self.task, max_context=max_context), memory=memory)


def make_plan(
    device: Device,
    storage: Storage,
    task: Task,
    *,
    speeds: Speeds | None = None,
    available_bytes: int | None = None,
) -> Plan:
    """Plan `task` on `device`; `speeds` and `available_bytes` are those of a machine that was measured."""
    sizes = sizes_of(task.facts, storage)
    known = speeds or speeds_of(device, storage)
    return Plan(
        device=device,
        storage=storage,
        sizes=sizes,
        speeds=known,
        task=task,
        memory=plan_memory(device, sizes, max_context=task.max_context, available_bytes=available_bytes),
        time=plan_time(task.facts, sizes, known, task.request),
    )


def verdict_of(total: Span, deadline_ms: float) -> Verdict:
    """How likely an answer that takes `total` is there by the deadline."""
    if total.most_ms <= deadline_ms:
        return "safe"
    if total.planned_ms <= deadline_ms:
        return "likely"
    if total.least_ms <= deadline_ms:
        return "unlikely"
    return "late" if total.limit_ms <= deadline_ms else "impossible"
