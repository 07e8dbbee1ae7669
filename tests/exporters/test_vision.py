import numpy as np
import pytest
import torch
from torch.nn import functional

from phiedge.exporters.checkpoint import Checkpoint
from phiedge.exporters.tensors import POSITION_TABLE, vision_tensor
from phiedge.exporters.vision import VisionEncoder


@pytest.fixture(scope="module")
def encoder(oracle_checkpoint: Checkpoint) -> VisionEncoder:
    module = VisionEncoder(oracle_checkpoint.config)
    weights = {name: torch.tensor(oracle_checkpoint.float32(vision_tensor(name))) for name in module.state_dict()}
    module.load_state_dict(weights)
    return module.requires_grad_(False)


@pytest.mark.parametrize("case", ["img1", "img1_think", "img1_nothink", "img2", "img2_swapped"])
def test_features_and_projected_rows_are_the_publishers(encoder, oracle_arrays, oracle_cases, case) -> None:
    for index in range(len(oracle_cases[case]["images"])):
        pos_embed = torch.tensor(oracle_arrays[f"{case}/pos_embed_{index}"])
        patches = torch.tensor(oracle_arrays[f"{case}/pixel_values"][index][: len(pos_embed)])
        features = encoder.tower(patches, pos_embed).numpy()
        rows = encoder(patches, pos_embed).numpy()
        np.testing.assert_allclose(features, oracle_arrays[f"{case}/vision_features_{index}"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(rows, oracle_arrays[f"{case}/projected_{index}"], rtol=0, atol=1e-4)


def test_its_parameters_are_the_vision_tensors_that_the_architecture_uses(encoder, oracle_checkpoint) -> None:
    expected = {
        name: spec.shape
        for name, spec in oracle_checkpoint.config.tensors().items()
        if spec.used and ("vision_tower" in name or "mm_projector" in name) and name != POSITION_TABLE
    }
    assert {vision_tensor(name): tuple(value.shape) for name, value in encoder.state_dict().items()} == expected


def test_the_last_block_of_the_checkpoint_is_not_built(encoder, oracle_checkpoint) -> None:
    assert len(encoder.tower.encoder.layers) == oracle_checkpoint.config.vision_layers - 1


def test_the_tower_has_the_tanh_form_of_gelu_and_the_projector_the_exact_one(encoder) -> None:
    x = torch.linspace(-4, 4, 101)
    exact, tanh = functional.gelu(x), functional.gelu(x, approximate="tanh")
    assert not torch.equal(exact, tanh)
    assert torch.equal(encoder.mm_projector[1](x), exact)


def test_every_patch_sees_every_other(encoder, oracle_arrays) -> None:
    pos_embed = torch.tensor(oracle_arrays["img1/pos_embed_0"])[:20]
    patches = torch.tensor(oracle_arrays["img1/pixel_values"][0][:20])
    nudged = patches.clone()
    nudged[-1] += 0.5
    moved = (encoder(nudged, pos_embed) - encoder(patches, pos_embed)).abs().amax(dim=1)
    assert (moved > 0).all()
