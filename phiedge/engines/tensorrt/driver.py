"""NVIDIA's driver, asked directly: which GPU is here, and whether anything can be computed on it.

The full TensorRT hands back an object that crashes the process when it is made without a driver, and says nothing of
what is missing. So the driver is asked first, through its own library; nothing of CUDA needs to be installed for that.
"""

import ctypes
from dataclasses import dataclass
from typing import Any

from phiedge.errors import DeviceError

DRIVER = "libcuda.so.1"
_NAME_BYTES = 256
# CUdevice_attribute of the driver API
_INTEGRATED, _MAJOR, _MINOR = 18, 75, 76
_INSTALL = "install NVIDIA's driver (nvidia-smi must list the GPU); in a container, give it the GPU: --gpus all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The first GPU that CUDA shows to this process. `sm` is its compute capability, 8.7 as 87.

    `cuda` is the CUDA that its driver serves, as (major, minor). An `integrated` GPU (a Jetson's) has no memory of its
    own: `memory_bytes` is then the memory of the machine.
    """

    name: str
    sm: int
    integrated: bool
    memory_bytes: int
    cuda: tuple[int, int]


def open_driver() -> Any:
    """The driver's library. Raises `DeviceError` where there is none."""
    try:
        return ctypes.CDLL(DRIVER)
    except OSError as error:
        raise DeviceError(f"there is no NVIDIA driver: {error}", remedy=_INSTALL) from error


def this_gpu(*, driver: Any = None) -> Gpu:
    """The GPU of this machine. Raises `DeviceError` without a driver or without a GPU that it serves."""
    cuda = open_driver() if driver is None else driver
    _check(cuda, "cuInit", cuda.cuInit(ctypes.c_uint(0)))
    device = ctypes.c_int()
    _check(cuda, "cuDeviceGet", cuda.cuDeviceGet(ctypes.byref(device), ctypes.c_int(0)))
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _check(cuda, "cuDeviceGetName", cuda.cuDeviceGetName(name, ctypes.c_int(_NAME_BYTES), device))
    memory = ctypes.c_size_t()
    _check(cuda, "cuDeviceTotalMem", cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device))
    version = ctypes.c_int()
    _check(cuda, "cuDriverGetVersion", cuda.cuDriverGetVersion(ctypes.byref(version)))
    return Gpu(
        name=name.value.decode(),
        sm=10 * _attribute(cuda, _MAJOR, device) + _attribute(cuda, _MINOR, device),
        integrated=bool(_attribute(cuda, _INTEGRATED, device)),
        memory_bytes=memory.value,
        cuda=(version.value // 1000, version.value % 1000 // 10),
    )


def _attribute(cuda: Any, attribute: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    answer = cuda.cuDeviceGetAttribute(ctypes.byref(value), ctypes.c_int(attribute), device)
    _check(cuda, f"cuDeviceGetAttribute {attribute}", answer)
    return value.value


def _check(cuda: Any, call: str, answer: int) -> None:
    if answer:
        raise DeviceError(f"there is no GPU to compute on: {call} answered {_told(cuda, answer)}", remedy=_INSTALL)


def _told(cuda: Any, answer: int) -> str:
    name = ctypes.c_char_p()
    known = cuda.cuGetErrorName(ctypes.c_int(answer), ctypes.byref(name)) == 0
    return f"{name.value.decode()} ({answer})" if known and name.value else str(answer)
