"""Where a session computes: an execution provider of ONNX Runtime, its options, and where bound memory lies."""

from collections.abc import Mapping
from dataclasses import dataclass, field

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One execution provider, asked for alone: ONNX Runtime itself adds the CPU behind every other.

    `device` and `device_id` are where ONNX Runtime allocates what is bound; on "cpu", arrays are bound in place.
    `without` names optimisers of ONNX Runtime's that are switched off. `captures` says that runs may be captured as a
    graph of the device and replayed (`GraphRun`).
    """

    name: str
    device: str
    device_id: int = 0
    options: Mapping[str, str] = field(default_factory=dict)
    session_config: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    captures: bool = False


def cpu() -> Provider:
    """The CPU provider."""
    return Provider(name=CPU, device="cpu")


def cuda(*, captures: bool, folds: bool = False, device_id: int = 0) -> Provider:
    """The CUDA provider, which refuses a graph that it cannot run to the last node.

    - `session.disable_cpu_ep_fallback`: a node without a CUDA kernel is an error at opening. With `enable_cuda_graph`
      ONNX Runtime makes the same demand a second time, and refuses a graph that another provider has part in.
    - `arena_extend_strategy`: the arena grows by what is asked for, not to the next power of two, which for the 15B
      could be 8 GB more than it needs.
    - Constant folding only where the graph needs it (`folds`), to turn codes with a sign into those that MatMulNBits
      takes. Otherwise it would transpose the float16 weights of every linear in memory of the host, the whole model,
      where CUDA multiplies by the transposed weight as it is.
    """
    return Provider(
        name=CUDA,
        device="cuda",
        device_id=device_id,
        options={
            "device_id": str(device_id),
            "arena_extend_strategy": "kSameAsRequested",
            "enable_cuda_graph": str(int(captures)),
        },
        session_config={"session.disable_cpu_ep_fallback": "1"},
        without=() if folds else ("ConstantFolding",),
        captures=captures,
    )
