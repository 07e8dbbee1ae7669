from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from phiedge.reference.network import TOWER, Shape, decode, initial_weights, is_unused, see
from phiedge.runtime.preprocess import Grid

ORACLE = Path(__file__).parents[1] / "oracle" / "tiny"
SHAPE = Shape(
    vocab=512, hidden=128, layers=3, heads=8, kv_heads=2, intermediate=448,
    vision_hidden=72, vision_layers=3, vision_heads=4, vision_intermediate=152,
)  # fmt: skip


@pytest.fixture(scope="module")
def weights() -> Mapping[str, Tensor]:
    found: dict[str, Tensor] = {}
    for shard in sorted(ORACLE.glob("*.safetensors")):
        found |= load_file(shard)
    return found


@pytest.fixture(scope="module")
def oracle() -> Mapping[str, np.ndarray]:
    with np.load(ORACLE / "oracle.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files if name.startswith(("img1/", "text/"))}


def test_the_eyes_in_trainable_form_see_what_the_publisher_sees(
    weights: Mapping[str, Tensor], oracle: Mapping[str, np.ndarray]
) -> None:
    rows, columns = oracle["img1/spatial_shapes"][0].tolist()
    seen = see(weights, torch.from_numpy(oracle["img1/pixel_values"]), Grid(rows=rows, columns=columns), SHAPE)
    assert np.abs(seen[0].numpy() - oracle["img1/projected_0"]).max() <= 1e-4


@pytest.mark.parametrize("prefix", [1, 100, 295])
def test_the_decoder_in_trainable_form_gives_the_publishers_logits(
    weights: Mapping[str, Tensor], oracle: Mapping[str, np.ndarray], prefix: int
) -> None:
    x = torch.from_numpy(oracle["img1/inputs_embeds"])
    t = x.shape[1]
    causal = torch.full((t, t), -1e9).triu(1)[prefix:][None, None]
    hidden, _ = decode(weights, x, torch.arange(t)[None], prefix, causal, SHAPE)
    logits = hidden[0] @ weights["lm_head.weight"].T
    assert np.abs(logits.numpy() - oracle["img1/logits"][0]).max() <= 1e-3


def test_initial_weights_have_the_checkpoints_names_and_shapes(weights: Mapping[str, Tensor]) -> None:
    made = initial_weights(SHAPE, seed=1)
    assert {name: tensor.shape for name, tensor in made.items()} == {n: t.shape for n, t in weights.items()}


def test_only_the_last_block_the_final_norm_and_the_pooling_head_are_unused() -> None:
    unused = {name.removeprefix(TOWER) for name in initial_weights(SHAPE, seed=1) if is_unused(name, SHAPE)}
    assert {name.split(".")[0] for name in unused} == {"encoder", "post_layernorm", "head"}
    assert all(name.startswith("encoder.layers.2.") for name in unused if name.startswith("encoder"))
    assert len(unused) == 16 + 2 + 11
