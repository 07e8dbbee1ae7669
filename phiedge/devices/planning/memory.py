"""Does a model fit a device? What it takes, what others take, and what is left.

A card has its memory for itself but for the driver's context and a reserve, because an allocator never gets the last
bytes; a device with unified memory shares it with its system. All allowances are planning values, not measurements.
"""

from dataclasses import dataclass

from phiedge.devices.planning.storage import Sizes
from phiedge.devices.spec import Device
from phiedge.errors import DeviceError

# The CUDA context, kernels, and what activations take while a chunk or a picture is computed.
WORKSPACE_BYTES = 1_000_000_000
CARD_RESERVE = 0.03
SYSTEM_BYTES = 1_800_000_000  # a Jetson's system without a desktop
LEAST_VISIBLE = 0.93  # of a module's chips that its system sees, where that was not recorded: the least that was


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Bytes that are needed and that there are; `estimated` if the device's own figure for the latter is not known."""

    weights_bytes: int
    embedding_bytes: int
    cache_bytes: int
    workspace_bytes: int
    system_bytes: int
    available_bytes: int
    max_context: int
    largest_context: int
    unified: bool
    estimated: bool

    @property
    def needed_bytes(self) -> int:
        """What must be in the device's memory; a card does not hold the embedding table."""
        embedding_bytes = self.embedding_bytes if self.unified else 0
        return self.weights_bytes + embedding_bytes + self.cache_bytes + self.workspace_bytes + self.system_bytes

    @property
    def spare_bytes(self) -> int:
        """What is left; negative where it does not fit."""
        return self.available_bytes - self.needed_bytes

    @property
    def fits(self) -> bool:
        return self.spare_bytes >= 0


def plan_memory(device: Device, sizes: Sizes, *, max_context: int, available_bytes: int | None = None) -> MemoryPlan:
    """The memory plan of a model on `device`, with a cache for `max_context` positions.

    `available_bytes` is what the machine at hand was found to have, for the CPU, which has no figures.
    """
    unified = device.memory_kind == "unified"
    total, estimated = _total(device, available_bytes)
    card_reserve = 0 if unified else round(CARD_RESERVE * total)
    # What a machine at hand has available is already without its system's share.
    system = SYSTEM_BYTES if unified and available_bytes is None else card_reserve
    fixed = sizes.weights_bytes + (sizes.embedding_bytes if unified else 0) + WORKSPACE_BYTES + system
    return MemoryPlan(
        weights_bytes=sizes.weights_bytes,
        embedding_bytes=sizes.embedding_bytes,
        cache_bytes=sizes.position_bytes * max_context,
        workspace_bytes=WORKSPACE_BYTES,
        system_bytes=system,
        available_bytes=total,
        max_context=max_context,
        largest_context=max(0, (total - fixed) // sizes.position_bytes),
        unified=unified,
        estimated=estimated,
    )


def _total(device: Device, available_bytes: int | None) -> tuple[int, bool]:
    if available_bytes is not None:
        return available_bytes, False
    if device.memory_bytes is None:
        raise DeviceError(f"nothing is known of the memory of {device.name}", remedy="plan on the machine itself")
    if device.memory_kind == "discrete":
        return device.memory_bytes.value, False
    if device.visible_bytes is not None:
        return device.visible_bytes.value, False
    return round(LEAST_VISIBLE * device.memory_bytes.value), True
