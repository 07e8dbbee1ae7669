import math

import numpy as np
import pytest

from fake_checkpoints import FakeDims, fake_config
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.random_tensors import RandomTensors, Spread, spread
from phiedge.exporters.tensors import EMBEDDING_TABLE, POSITION_TABLE, TOWER_PREFIX
from published import PUBLISHED_CONFIG, PUBLISHED_PARAMETERS, PUBLISHED_TENSORS

CONFIG = ModelConfig.from_json(fake_config(FakeDims()))
PUBLISHED = ModelConfig.from_json(PUBLISHED_CONFIG)
BLOCK = TOWER_PREFIX + "encoder.layers.0."


def widened(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


@pytest.fixture(scope="module")
def tensors() -> RandomTensors:
    return RandomTensors(CONFIG, seed=5)


def test_every_tensor_of_the_architecture_is_there_in_its_shape(tensors: RandomTensors) -> None:
    for name, spec in CONFIG.tensors().items():
        made = tensors.tensor(name)
        assert made.shape == tensors.shape(name) == spec.shape
        assert made.dtype == np.uint16
        assert np.isfinite(widened(made)).all(), name
    assert tensors.names() == tuple(CONFIG.tensors())


def test_rows_are_those_of_the_whole_tensor(tensors: RandomTensors) -> None:
    for name in tensors.names():
        whole = tensors.tensor(name)
        for step in (1, 3, 7):
            for first in range(0, whole.shape[0], step * 5):
                rows = slice(first, first + step)
                np.testing.assert_array_equal(tensors.tensor(name, rows), whole[rows])
    assert tensors.tensor("model.norm.weight", slice(5, 5)).shape == (0,)


def test_different_tensors_and_seeds_have_different_values(tensors: RandomTensors) -> None:
    other_seed = RandomTensors(CONFIG, seed=6)
    seen = set()
    for name in tensors.names():
        seen.add(tensors.tensor(name).tobytes())
        seen.add(other_seed.tensor(name).tobytes())
    assert len(seen) == 2 * len(tensors.names())
    np.testing.assert_array_equal(
        RandomTensors(CONFIG, seed=5).tensor(EMBEDDING_TABLE), tensors.tensor(EMBEDDING_TABLE)
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.norm.weight", Spread(mean=1, std=0.05)),
        ("model.layers.7.input_layernorm.weight", Spread(mean=1, std=0.05)),
        (BLOCK + "layer_norm2.weight", Spread(mean=1, std=0.05)),
        (BLOCK + "layer_norm2.bias", Spread(mean=0, std=0.02)),
        (TOWER_PREFIX + "post_layernorm.weight", Spread(mean=1, std=0.05)),
        (TOWER_PREFIX + "head.layernorm.weight", Spread(mean=1, std=0.05)),
        (BLOCK + "mlp.fc1.bias", Spread(mean=0, std=0.02)),
        (TOWER_PREFIX + "head.attention.in_proj_bias", Spread(mean=0, std=0.02)),
        (EMBEDDING_TABLE, Spread(mean=0, std=0.05)),
        (POSITION_TABLE, Spread(mean=0, std=0.05)),
        (TOWER_PREFIX + "head.probe", Spread(mean=0, std=0.05)),
        ("lm_head.weight", Spread(mean=0, std=5120**-0.5)),
        ("model.layers.39.self_attn.qkv_proj.weight", Spread(mean=0, std=5120**-0.5)),
        ("model.layers.39.mlp.down_proj.weight", Spread(mean=0, std=17920**-0.5 / 80**0.5)),
        (BLOCK + "self_attn.out_proj.weight", Spread(mean=0, std=1152**-0.5 / 54**0.5)),
        (TOWER_PREFIX + "head.attention.in_proj_weight", Spread(mean=0, std=1152**-0.5)),
        ("model.mm_projector.2.weight", Spread(mean=0, std=5120**-0.5)),
    ],
)
def test_the_spread_goes_by_the_tensors_role(name: str, expected: Spread) -> None:
    found = spread(PUBLISHED, name, PUBLISHED.tensors()[name].shape)
    assert found.mean == expected.mean
    assert math.isclose(found.std, expected.std)


def test_the_values_have_that_spread(tensors: RandomTensors) -> None:
    for name in tensors.names():
        values = widened(tensors.tensor(name)).astype(np.float64)
        wanted, samples = spread(CONFIG, name, values.shape), values.size
        assert abs(values.mean() - wanted.mean) < 5 * wanted.std / samples**0.5 + 0.002, name
        assert abs(values.std() / wanted.std - 1) < 5 / samples**0.5 + 0.03, name


def test_a_stream_of_layers_stays_of_order_one(tensors: RandomTensors) -> None:
    """Gated MLPs one after the other on a residual stream, as in the decoder, without attention."""
    config = ModelConfig.from_json(fake_config(FakeDims(num_hidden_layers=12, hidden_size=128, intermediate_size=256)))
    deep = RandomTensors(config, seed=0)
    stream = np.random.default_rng(0).standard_normal((16, 128)).astype(np.float32)
    for layer in range(12):
        normed = stream / np.sqrt((stream**2).mean(-1, keepdims=True))
        gate, up = np.split(normed @ widened(deep.tensor(f"model.layers.{layer}.mlp.gate_up_proj.weight")).T, 2, axis=1)
        hidden = gate / (1 + np.exp(-gate)) * up
        stream = stream + hidden @ widened(deep.tensor(f"model.layers.{layer}.mlp.down_proj.weight")).T
    assert 0.5 < stream.std() < 3


def test_the_full_size_costs_nothing_before_it_is_asked_for() -> None:
    full = RandomTensors(PUBLISHED, seed=0)
    assert len(full.names()) == PUBLISHED_TENSORS
    assert sum(math.prod(full.shape(name)) for name in full.names()) == PUBLISHED_PARAMETERS
    assert full.tensor("lm_head.weight", slice(100_350, 100_352)).shape == (2, 5120)
