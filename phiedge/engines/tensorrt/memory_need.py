"""How much memory of the device a session needs, told before any of it is taken.

The weights of an engine are about as large as its file: what else is in it is a few megabytes. Caches, inputs and
outputs are planned to the byte, and what kernels work in is what an engine says once it is loaded. So there are two
times to look: before anything is loaded, and before anything else is allocated.
"""

from collections.abc import Mapping

from phiedge.errors import DeviceError

# CUDA's own context, the code of the kernels, and what the library allocates for itself. An assumption: no GPU was at
# hand to measure it on.
LIBRARY_BYTES = 500_000_000


def require_device_memory(name: str, parts: Mapping[str, int], *, free_bytes: int, max_context: int) -> None:
    """Refuse what does not fit; `parts` are bytes by what they are for.

    Raises `DeviceError` with what is needed, for what, and what the device called `name` has free.
    """
    needed_bytes = sum(parts.values())
    if needed_bytes > free_bytes:
        listed = ", ".join(f"{size_bytes / 1e9:.2f} for {part}" for part, size_bytes in parts.items())
        raise DeviceError(
            f"the engines need {needed_bytes / 1e9:.2f} GB of device memory ({listed}), {name} has "
            f"{free_bytes / 1e9:.2f} GB free",
            remedy=f"free memory of the GPU, or export with a --max-context below {max_context}",
        )
