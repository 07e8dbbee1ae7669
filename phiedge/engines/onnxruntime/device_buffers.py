"""Memory on a device that is bound to a graph and stays where it is, and the copies between it and the host."""

from typing import Any

import numpy as np
import numpy.typing as npt

from phiedge.bundle import ModelFacts
from phiedge.engines.aligned import aligned_zeros
from phiedge.engines.interface import Array
from phiedge.engines.onnxruntime.library import ORT_ERRORS, first_line, ort
from phiedge.engines.onnxruntime.provider import Provider
from phiedge.errors import SessionError


class MirroredArray:
    """An array of the host, `host`, and its double on the device, `value`. Nothing is copied unless it is asked for."""

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike, provider: Provider) -> None:
        self.host = aligned_zeros(shape, dtype)
        self.value = _allocated(shape, dtype, provider)
        self.to_device()

    def to_device(self) -> None:
        """Copy the host's numbers to the device; they are there when this returns."""
        self.value.update_inplace(self.host)

    def to_host(self) -> None:
        """Copy the device's numbers into the host's array."""
        self.host[...] = self.value.numpy()


class DeviceCache:
    """Keys and values of all layers on a device, `[1, kv_heads, capacity, head_dim]` each, zeros at first.

    Zeros, because kernels read whole tiles and only then leave out what lies past the end: what is left out must at
    least be a number.
    """

    def __init__(self, facts: ModelFacts, *, capacity: int, dtype: np.dtype[Any], provider: Provider) -> None:
        shape = (1, facts.num_kv_heads, capacity, facts.head_dim)
        self.capacity = capacity
        self.size_bytes = 2 * facts.num_layers * int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        zeros = np.zeros(shape, dtype)
        try:
            self.values = {
                f"{layer}.{side}": _filled(zeros, provider)
                for layer in range(facts.num_layers)
                for side in ("key", "value")
            }
        except ORT_ERRORS as error:
            raise SessionError(
                f"the key/value cache for {capacity} positions needs {self.size_bytes / 1e9:.2f} GB of device memory: "
                f"{first_line(error)}",
                remedy="open the session with a smaller max_context, or free memory of the device",
            ) from error


def _filled(array: Array, provider: Provider) -> ort.OrtValue:
    value = _allocated(array.shape, array.dtype, provider)
    value.update_inplace(array)
    return value


def _allocated(shape: tuple[int, ...], dtype: npt.DTypeLike, provider: Provider) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_shape_and_type(shape, np.dtype(dtype).type, provider.device, provider.device_id)
