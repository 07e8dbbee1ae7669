import numpy as np
import pytest
import torch
from torch.nn import functional

from phiedge.calibration.decoder_layer import LINEARS, LayerMath, Linear, linear_name, norm_names, read_tensor
from phiedge.calibration.folding import Folding

CASES = ["text", "img1", "img1_think", "img2_swapped"]


def run(config, tensors: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    """All layers, the final norm and the head."""
    math = LayerMath(config=config)
    for layer in range(config.num_layers):

        def multiply(linear: Linear, x: torch.Tensor, layer: int = layer) -> torch.Tensor:
            return functional.linear(x, tensors[linear_name(layer, linear)])

        first, second = norm_names(layer)
        rows = math.forward(rows, (tensors[first], tensors[second]), multiply)
    return functional.linear(math.normed(rows, tensors["model.norm.weight"]), tensors["lm_head.weight"])


@pytest.fixture(scope="module")
def tensors(oracle_checkpoint) -> dict[str, torch.Tensor]:
    names = ["model.norm.weight", "lm_head.weight"]
    for layer in range(oracle_checkpoint.config.num_layers):
        names += [*norm_names(layer), *(linear_name(layer, linear) for linear in LINEARS)]
    return {name: read_tensor(oracle_checkpoint, name) for name in names}


@pytest.mark.parametrize("case", CASES)
def test_layers_give_the_publishers_logits_at_every_position(oracle_checkpoint, tensors, oracle_arrays, case) -> None:
    rows = torch.tensor(oracle_arrays[f"{case}/inputs_embeds"][0])
    found = run(oracle_checkpoint.config, tensors, rows)
    np.testing.assert_allclose(found.numpy(), oracle_arrays[f"{case}/logits"][0], rtol=0, atol=1e-3)


def test_folding_alone_changes_no_logit(oracle_checkpoint, tensors, oracle_arrays) -> None:
    config = oracle_checkpoint.config
    folding = Folding(config=config)
    generator = torch.Generator().manual_seed(1)
    folded = dict(tensors)
    for layer in range(config.num_layers):
        widths: dict[Linear, int] = {
            "qkv": config.hidden_size,
            "o": config.hidden_size,
            "gate_up": config.hidden_size,
            "down": config.intermediate_size,
        }
        factors = {
            linear: folding.pool(linear)(0.2 + 4 * torch.rand(width, generator=generator))
            for linear, width in widths.items()
        }
        folded |= folding.folded(layer, tensors, factors)
    rows = torch.tensor(oracle_arrays["img1/inputs_embeds"][0])
    before, after = run(config, tensors, rows), run(config, folded, rows)
    assert float((before - after).abs().max()) <= 1e-5 * float(before.abs().max())
    assert not torch.equal(tensors[linear_name(0, "o")], folded[linear_name(0, "o")])
