import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from opened_engines import Opened
from ort_graphs import open_graph
from phiedge.bundle import Bundle
from phiedge.engines.interface import RunStoppedError
from phiedge.errors import BundleError, SessionError
from recorded_device import Call
from tensorrt_runtime import library

WithEngines = Callable[..., Bundle]


@pytest.fixture
def opened(with_engines: WithEngines) -> Opened:
    return Opened(with_engines(), library())


def picture(opened: Opened, patches: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    facts, random = opened.bundle.manifest.facts, np.random.default_rng(seed)
    widths = (3 * facts.patch_size**2, facts.vision_hidden_size)
    pixels, places = (random.normal(size=(patches, width)).astype(np.float16) for width in widths)
    return pixels, places, np.empty((patches, facts.hidden_size), np.float16)


def encoded(opened: Opened, patches: int) -> np.ndarray:
    pixels, places, out = picture(opened, patches)
    opened.engines.vision.encode(pixels, places, out)
    return out


def test_features_are_those_of_the_graph_at_any_number_of_patches(opened: Opened) -> None:
    graph = open_graph(opened.bundle.file("vision.tensorrt.onnx"))
    facts = opened.bundle.manifest.facts
    for patches in (facts.min_num_patches, 1, 300, facts.min_num_patches):
        pixels, places, _ = picture(opened, patches)
        (wanted,) = graph.run(["features"], {"patches": pixels, "pos_embed": places})
        np.testing.assert_array_equal(encoded(opened, patches), wanted)


def test_a_picture_of_the_largest_number_of_patches_fits(opened: Opened) -> None:
    assert np.isfinite(encoded(opened, opened.bundle.manifest.facts.max_num_patches)).all()


def test_what_a_picture_has_is_copied_and_no_more(opened: Opened) -> None:
    facts, mark = opened.bundle.manifest.facts, len(opened.memory.calls)
    encoded(opened, 260)
    assert opened.memory.calls[mark:] == [
        Call(kind="to_device", size_bytes=260 * 3 * facts.patch_size**2 * 2),
        Call(kind="to_device", size_bytes=260 * facts.vision_hidden_size * 2),
        Call(kind="execute", name="profile 0"),
        Call(kind="to_host", size_bytes=260 * facts.hidden_size * 2),
        Call(kind="synchronise"),
    ]


def test_too_many_patches_are_refused_in_the_librarys_words_and_the_next_picture_is_encoded(opened: Opened) -> None:
    most, least = opened.bundle.manifest.facts.max_num_patches, opened.bundle.manifest.facts.min_num_patches
    encoded(opened, least)
    with pytest.raises(SessionError, match=f"does not take patches .{most + 1}, .*outside of profile 0"):
        encoded(opened, most + 1)
    assert np.isfinite(encoded(opened, least)).all()


def test_a_stopped_engine_refuses_pictures_until_it_is_armed_again(opened: Opened) -> None:
    opened.engines.vision.stop()
    mark = len(opened.memory.calls)
    with pytest.raises(RunStoppedError):
        encoded(opened, 256)
    assert len(opened.memory.calls) == mark
    opened.engines.vision.rearm()
    encoded(opened, 256)


def test_kernels_of_a_picture_do_not_change_between_two_requests(opened: Opened) -> None:
    trt = opened.library.trt
    chosen = [config.dynamic_shapes_kernel_specialization_strategy for config in trt.configs]
    strategies = trt.DynamicShapesKernelSpecializationStrategy
    assert chosen == [strategies.NONE, strategies.EAGER, strategies.EAGER]


def test_a_profile_that_does_not_cover_the_models_pictures_is_refused_with_both(with_engines: WithEngines) -> None:
    bundle = with_engines()
    engine = bundle.path / "engines" / "tensorrt-rtx-sm89" / "vision.engine"
    narrower(engine)
    with pytest.raises(BundleError, match=r"profiles of \[\(256, 999\)\] patches, .* need one from 1 to 3600"):
        Opened(bundle, library())


def narrower(engine: Path) -> None:
    """Another profile in as many bytes."""
    text = engine.read_text()
    told = json.loads(text)
    told["profiles"] = [[256, 999, 999]]
    engine.write_text(json.dumps(told).ljust(len(text)))
