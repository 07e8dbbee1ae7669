import pytest

from phiedge.engines.tensorrt.driver import Gpu
from phiedge.engines.tensorrt.ports import Ports
from phiedge.engines.tensorrt.workspace import limit_workspace, workspace_bytes
from tensorrt_builder import Recorded
from tensorrt_surfaces import JETPACK_6


def gpu(*, integrated: bool, memory_bytes: int) -> Gpu:
    return Gpu(name="Orin", sm=87, integrated=integrated, memory_bytes=memory_bytes, cuda=(12, 6))


@pytest.mark.parametrize(("memory_gib", "limit_gib"), [(64, 4), (32, 4), (8, 2)])
def test_kernels_get_a_quarter_of_a_jetson_and_at_most_four_gib(memory_gib: int, limit_gib: int) -> None:
    assert workspace_bytes(gpu(integrated=True, memory_bytes=memory_gib << 30)) == limit_gib << 30


@pytest.mark.parametrize(("integrated", "pools"), [(True, {"WORKSPACE": 4 << 30}), (False, {})])
def test_only_the_memory_of_the_machine_is_limited(integrated: bool, pools: dict[str, int]) -> None:
    tensorrt = Recorded(name=JETPACK_6, ports=Ports(inputs=(), outputs=()))
    trt = tensorrt.module()
    limit_workspace(trt.IBuilderConfig(), trt, gpu(integrated=integrated, memory_bytes=64 << 30))
    assert tensorrt.pools == pools
