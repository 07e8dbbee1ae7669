"""Memory that is bound to a graph and stays where it is."""

from typing import Any

import numpy as np
import numpy.typing as npt

from phiedge.engines.aligned import aligned_zeros
from phiedge.engines.interface import Array
from phiedge.engines.onnxruntime.library import ort
from phiedge.errors import SessionError


def alias(array: Array) -> ort.OrtValue:
    """An OrtValue on the memory of `array` itself. It holds a reference to the array."""
    assert array.flags.c_contiguous
    value = ort.OrtValue.ortvalue_from_numpy(array)
    if value.data_ptr() != array.ctypes.data:
        raise SessionError(
            f"ONNX Runtime {ort.__version__} copies arrays instead of using them in place",
            remedy="install the onnxruntime version that phiedge was tested with",
        )
    return value


class HostCache:
    """Keys and values of all layers in one allocation, `[layer, 2, 1, kv_heads, capacity, head_dim]`."""

    def __init__(self, *, layers: int, kv_heads: int, capacity: int, head_dim: int, dtype: npt.DTypeLike) -> None:
        shape = (layers, 2, 1, kv_heads, capacity, head_dim)
        size_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        try:
            self._storage = aligned_zeros(shape, dtype)
        except MemoryError as error:
            raise SessionError(
                f"the key/value cache for {capacity} positions needs {size_bytes / 1e9:.2f} GB of memory",
                remedy="open the session with a smaller max_context",
            ) from error

    @property
    def capacity(self) -> int:
        """How many positions it holds."""
        return int(self._storage.shape[4])

    @property
    def size_bytes(self) -> int:
        """What it takes."""
        return self._storage.nbytes

    def layers(self) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        """Key and value of every layer, `[1, kv_heads, capacity, head_dim]` each: views, not copies."""
        return [(layer[0], layer[1]) for layer in self._storage]
