import pytest

from phiedge.engines.tensorrt.memory_need import require_device_memory
from phiedge.errors import DeviceError

PARTS = {"weights": 8_200_000_000, "a cache of 4096 positions": 838_860_800, "CUDA": 500_000_000}


def test_what_fits_to_the_byte_is_not_refused() -> None:
    require_device_memory("RTX 3080", PARTS, free_bytes=sum(PARTS.values()), max_context=4096)


def test_what_does_not_fit_is_refused_with_every_number_and_what_would_help() -> None:
    with pytest.raises(DeviceError) as caught:
        require_device_memory("RTX 3080", PARTS, free_bytes=8_000_000_000, max_context=4096)
    assert caught.value.message == (
        "the engines need 9.54 GB of device memory (8.20 for weights, 0.84 for a cache of 4096 positions, "
        "0.50 for CUDA), RTX 3080 has 8.00 GB free"
    )
    assert "--max-context below 4096" in str(caught.value.remedy)
