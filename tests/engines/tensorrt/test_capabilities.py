from dataclasses import asdict

import pytest

from phiedge.engines.tensorrt.capabilities import Capabilities, capabilities_of
from tensorrt_surfaces import JETPACK_6, JETPACK_7, RTX, SURFACES, TENSORRT_11, stand_in, surface


def capabilities(name: str) -> Capabilities:
    version = tuple(int(part) for part in surface(name).version.split(".")[:2])
    return capabilities_of(stand_in(name), ahead_of_time=name == RTX, version=version)


HAS = {
    RTX: {
        "builds_ahead",
        "maps_weights",
        "progress_monitor",
        "aliased_outputs",
        "runtime_cache",
        "cuda_graph_strategy",
    },
    JETPACK_6: {"strongly_typed_flag", "timing_cache", "progress_monitor"},
    JETPACK_7: {"strongly_typed_flag", "maps_weights", "timing_cache", "progress_monitor", "aliased_outputs"},
    TENSORRT_11: {"maps_weights", "timing_cache", "progress_monitor", "aliased_outputs"},
}


@pytest.mark.parametrize("name", SURFACES)
def test_what_each_release_was_seen_to_have(name: str) -> None:
    found = {flag for flag, has in asdict(capabilities(name)).items() if has is True}
    assert found == HAS[name]


@pytest.mark.parametrize(
    ("name", "dialect"),
    [(RTX, "tensorrt"), (JETPACK_6, "tensorrt-10.3"), (JETPACK_7, "tensorrt"), (TENSORRT_11, "tensorrt")],
)
def test_each_release_has_its_dialect(name: str, dialect: str) -> None:
    assert capabilities(name).dialect == dialect


def test_a_release_that_has_the_caches_and_not_yet_the_parser_takes_the_conservative_dialect() -> None:
    found = capabilities_of(stand_in(JETPACK_7), ahead_of_time=False, version=(10, 15))
    assert found.aliased_outputs
    assert found.dialect == "tensorrt-10.3"
