from collections.abc import Iterator

import pytest

from fake_checkpoints import write_checkpoint
from phiedge.calibration.eight_bit_run import EightBits, calibrate_eight_bits
from phiedge.exporters.checkpoint import Checkpoint, open_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Iterator[Checkpoint]:
    with open_checkpoint(write_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint")) as checkpoint:
        yield checkpoint


def test_every_linear_and_cache_has_a_scale_and_next_to_nothing_is_lost(checkpoint, text_samples, tmp_path) -> None:
    found = calibrate_eight_bits(checkpoint, text_samples(), EightBits(linears=True, cache="float8"), tmp_path)
    assert len(found.layers) == checkpoint.config.num_layers
    for layer in found.layers:
        assert set(layer.inputs) == {"qkv", "o", "gate_up", "down"}
        assert layer.key is not None
        assert all(scale.scale > 0 for scale in (*layer.inputs.values(), layer.key))
    assert 0 < found.divergence["all"].kl_mean < 0.01


def test_a_cache_alone_leaves_the_linears_alone(checkpoint, text_samples, tmp_path) -> None:
    found = calibrate_eight_bits(checkpoint, text_samples(), EightBits(linears=False, cache="int8"), tmp_path)
    assert found.layers[0].inputs == {}
    assert 0 < found.divergence["all"].kl_mean < 0.01
