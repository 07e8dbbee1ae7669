"""What TensorRT-LLM takes for a device."""

from pathlib import Path

import pytest

from phiedge.engines.tensorrt_llm.build_tool import BuildRequest
from phiedge.engines.tensorrt_llm.commands import check_device, elsewhere, way_elsewhere
from phiedge.errors import DeviceError


def test_orin_gets_engines_and_others_a_checkpoint() -> None:
    assert [way_elsewhere(sm) for sm in (86, 87, 89)] == ["load", "engine", "load"]


def test_a_device_without_int4_kernels_is_refused() -> None:
    check_device(89, "int4")
    with pytest.raises(DeviceError, match="no int4 kernels for SM 120, it has them for SM 80, 86, 87, 89, 90"):
        check_device(120, "int4")


def test_fp8_with_a_scale_for_each_row_is_for_hopper() -> None:
    check_device(90, "float8")
    with pytest.raises(DeviceError, match="a scale for each row for SM 90, this is SM 89"):
        check_device(89, "float8")


def test_fp8_with_one_scale_for_a_weight_is_for_rtx_too() -> None:
    for sm in (89, 90, 120):
        check_device(sm, "float8", tensor_scales=True)
    with pytest.raises(DeviceError, match="a scale for each tensor for SM 89, 90, 120, this is SM 121"):
        check_device(121, "float8", tensor_scales=True)


def test_the_command_serves_on_this_machine_only() -> None:
    request = BuildRequest(
        checkpoint=Path("a.modelopt"),
        output=Path("a.tensorrt-llm"),
        max_context=4096,
        pictures_tokens=7,
        weights_bytes=1,
    )
    said = elsewhere("load", request)
    assert "--host 127.0.0.1" in said.command
    assert "--max_seq_len 4096" in said.command
    assert said.needs == "TensorRT-LLM 1.3 or later"
