"""The vision engine on TensorRT: one picture at a time, of any number of patches within the engine's profile.

Patches and positions are copied to the device through pinned memory, the features back, both for the patches that the
picture has and no more. `stop` is looked at before a picture is enqueued; one that has been ends by itself.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from phiedge.bundle import ModelFacts
from phiedge.engines.interface import Array, RunStoppedError
from phiedge.engines.tensorrt.bindings import check_bindings, mismatch, profile_sizes
from phiedge.engines.tensorrt.buffer_plan import ACTIVATION
from phiedge.engines.tensorrt.device_memory import DeviceMemory, aligned
from phiedge.engines.tensorrt.engine_thread import EngineThread
from phiedge.engines.tensorrt.loaded_engine import Execution, LoadedEngine
from phiedge.engines.tensorrt.ports import vision_ports


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionPlan:
    """The sizes of what a picture of the largest number of patches needs on the device, in values of a patch."""

    most_patches: int
    least_patches: int
    widths: dict[str, int]  # patches, pos_embed, features

    def size_bytes(self, name: str) -> int:
        """The room for one input or output."""
        return aligned(self.most_patches * self.widths[name] * ACTIVATION.itemsize)

    @property
    def total_bytes(self) -> int:
        """The room for all of them."""
        return sum(self.size_bytes(name) for name in self.widths)


def plan_vision(path: Path, engine: LoadedEngine, facts: ModelFacts) -> VisionPlan:
    """The plan of a vision engine. Raises `BundleError` naming what the engine has and what the manifest needs."""
    ports = vision_ports(facts)
    check_bindings(path, engine.bindings, ports)
    wanted = (1, facts.max_num_patches)  # `max_visual_tokens` may ask for fewer than the model itself would
    sizes = profile_sizes(path, engine.bindings, ports)
    if len(sizes) != 1 or sizes[0][0] > wanted[0] or sizes[0][1] < wanted[1]:
        raise mismatch(path, f"profiles of {sizes} patches", f"one from {wanted[0]} to {wanted[1]}")
    widths = {port.name: port.shape[1] for port in (*ports.inputs, *ports.outputs)}
    return VisionPlan(most_patches=wanted[1], least_patches=sizes[0][0], widths=widths)


class TensorRtVision:
    """`patches [n, patch values]` and `pos_embed [n, channels]` to `features [n, hidden]`."""

    input_dtype = output_dtype = ACTIVATION

    def __init__(
        self, engine: LoadedEngine, plan: VisionPlan, *, thread: EngineThread, scratch: int, scratch_bytes: int
    ) -> None:
        self._thread, self._stopped = thread, False
        self._device = thread(partial(_VisionOnDevice, engine, plan, thread.memory, scratch, scratch_bytes))
        thread.hold(self._device.close)
        thread(partial(_warm_up, self._device))

    def encode(self, patches: Array, positions: Array, out: Array) -> None:
        """Write the features of one picture into `out`. Raises `RunStoppedError`, or `SessionError` if it fails."""
        assert patches.dtype == positions.dtype == out.dtype == ACTIVATION
        if self._stopped:
            raise RunStoppedError
        self._thread(partial(self._device.run, patches, positions, out))

    def stop(self) -> None:
        """Let nothing more be enqueued until `rearm`; from any thread."""
        self._stopped = True

    def rearm(self) -> None:
        """Allow runs again after `stop`."""
        self._stopped = False


class _VisionOnDevice:
    """What of it lives on the engine's thread."""

    def __init__(
        self, engine: LoadedEngine, plan: VisionPlan, memory: DeviceMemory, scratch: int, scratch_bytes: int
    ) -> None:
        self.plan, self._memory, self._engine = plan, memory, engine
        self._addresses = {name: memory.allocate(plan.size_bytes(name)) for name in plan.widths}
        self._pinned = {name: memory.pinned(plan.size_bytes(name)) for name in plan.widths}
        self._execution = Execution(
            engine, memory, profile=0, scratch=scratch, scratch_bytes=scratch_bytes, varies=True
        )
        self._execution.bind(self._addresses)
        self._patches = 0

    def run(self, patches: Array, positions: Array, out: Array) -> None:
        """Compute one picture and wait for it."""
        count = len(patches)
        self._shape(count)
        for name, values in (("patches", patches), ("pos_embed", positions)):
            staged = self._used(name, count)
            staged.view(ACTIVATION).reshape(values.shape)[...] = values
            self._memory.to_device(self._addresses[name], staged)
        self._execution.enqueue()
        features = self._used("features", count)
        self._memory.to_host(features, self._addresses["features"])
        self._memory.synchronise()
        out[...] = features.view(ACTIVATION).reshape(out.shape)

    def close(self) -> None:
        """Let go of the context."""
        self._execution.close()

    def _used(self, name: str, count: int) -> Array:
        """The pinned bytes of `count` patches."""
        staged: Array = self._pinned[name][: count * self.plan.widths[name] * ACTIVATION.itemsize]
        return staged

    def _shape(self, count: int) -> None:
        if count != self._patches:
            self._patches = 0  # neither this nor that, should it fail
            self._execution.shape({name: (count, self.plan.widths[name]) for name in ("patches", "pos_embed")})
            self._patches = count


def _warm_up(device: _VisionOnDevice) -> None:
    """Run one picture of zeros: what is compiled or allocated when it first runs shall be so before a request."""
    count, widths = device.plan.least_patches, device.plan.widths
    patches, positions, features = (np.zeros((count, width), ACTIVATION) for width in widths.values())
    device.run(patches, positions, features)
