"""How much memory the kernels of an engine may take for themselves, where it is the memory of the machine.

By default TensorRT lets a kernel have as much as the GPU has. On a Jetson that is all the memory there is: weights,
cache, the pictures and the robot's own programs lie in it, too.
"""

from typing import Any

from phiedge.engines.tensorrt.driver import Gpu

# Attention over the largest picture, should it not be fused: 16 heads of 3600 x 3600 scores, in float16 and float32,
# are 1.2 GB. Three times that.
_MOST_BYTES = 4 << 30
_SHARE = 4


def workspace_bytes(gpu: Gpu) -> int | None:
    """The limit for engines of `gpu`, or None for TensorRT's own: the memory of a card is there for nothing else."""
    return min(_MOST_BYTES, gpu.memory_bytes // _SHARE) if gpu.integrated else None


def limit_workspace(config: Any, trt: Any, gpu: Gpu) -> None:
    """Set that limit. The pool for trying kernels stays as it is: a kernel that is not tried is not there."""
    limit = workspace_bytes(gpu)
    if limit is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, limit)
