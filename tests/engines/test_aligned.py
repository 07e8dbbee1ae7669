import numpy as np
import pytest

from phiedge.engines.aligned import aligned_zeros


@pytest.mark.parametrize("shape", [(), (1,), (3, 5, 7), (2, 1, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32])
def test_arrays_are_zero_contiguous_writable_and_on_a_cache_line(shape: tuple[int, ...], dtype: type) -> None:
    array = aligned_zeros(shape, dtype)
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.ctypes.data % 64 == 0
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert not array.any()
