import ctypes
from typing import Any

import pytest

from phiedge.engines.tensorrt import driver
from phiedge.errors import DeviceError

_INT, _INT_OUT = ctypes.c_int, ctypes.POINTER(ctypes.c_int)
_DEVICE, _BAD_DEVICE = 7, 101


class OneGpu:
    """A driver's library with one GPU; its functions are C functions, so that every call goes as with the real one."""

    def __init__(self, *, init: int = 0, gpus: int = 1) -> None:
        self._init, self._gpus = init, gpus
        self.cuInit = ctypes.CFUNCTYPE(_INT, ctypes.c_uint)(lambda flags: self._init)
        self.cuDeviceGet = ctypes.CFUNCTYPE(_INT, _INT_OUT, _INT)(self._device)
        self.cuDeviceGetName = ctypes.CFUNCTYPE(_INT, ctypes.c_void_p, _INT, _INT)(self._name)
        self.cuDeviceTotalMem_v2 = ctypes.CFUNCTYPE(_INT, ctypes.POINTER(ctypes.c_size_t), _INT)(self._memory)
        self.cuDriverGetVersion = ctypes.CFUNCTYPE(_INT, _INT_OUT)(self._version)
        self.cuDeviceGetAttribute = ctypes.CFUNCTYPE(_INT, _INT_OUT, _INT, _INT)(self._attribute)
        self.cuGetErrorName = ctypes.CFUNCTYPE(_INT, _INT, ctypes.POINTER(ctypes.c_char_p))(self._error)

    def _device(self, device: Any, ordinal: int) -> int:
        device[0] = _DEVICE + ordinal
        return 0 if ordinal < self._gpus else _BAD_DEVICE

    def _name(self, name: int, size: int, device: int) -> int:
        ctypes.memmove(name, b"Orin\0", min(size, 5))
        return 0 if device == _DEVICE else _BAD_DEVICE

    def _memory(self, memory: Any, device: int) -> int:
        memory[0] = 64 * 2**30
        return 0 if device == _DEVICE else _BAD_DEVICE

    def _version(self, version: Any) -> int:
        version[0] = 12060
        return 0

    def _attribute(self, value: Any, attribute: int, device: int) -> int:
        value[0] = {75: 8, 76: 7, 18: 1}[attribute]
        return 0 if device == _DEVICE else _BAD_DEVICE

    def _error(self, error: int, name: Any) -> int:
        name[0] = b"CUDA_ERROR_NO_DEVICE" if error == 100 else None
        return 0 if error == 100 else 1


def test_the_gpu_is_what_the_driver_says() -> None:
    assert driver.this_gpu(driver=OneGpu()) == driver.Gpu(
        name="Orin", sm=87, integrated=True, memory_bytes=64 * 2**30, cuda=(12, 6)
    )


def test_a_driver_that_serves_no_gpu_is_refused_with_its_own_word() -> None:
    with pytest.raises(DeviceError, match=r"cuInit answered CUDA_ERROR_NO_DEVICE \(100\)"):
        driver.this_gpu(driver=OneGpu(init=100))


def test_an_answer_without_a_name_is_told_by_its_number() -> None:
    with pytest.raises(DeviceError, match="cuDeviceGet answered 101"):
        driver.this_gpu(driver=OneGpu(gpus=0))


def test_a_machine_without_a_driver_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "DRIVER", "libcuda.so.none")
    with pytest.raises(DeviceError, match=r"there is no NVIDIA driver: libcuda\.so\.none") as refused:
        driver.this_gpu()
    assert refused.value.remedy is not None
    assert "nvidia-smi must list the GPU" in refused.value.remedy
