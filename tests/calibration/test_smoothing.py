import torch

from phiedge.calibration.grouped import round_to_nearest
from phiedge.calibration.smoothing import divided, search_smoothing

GROUPED = {"group_size": 32, "bits": 4}


def inputs(outliers: int) -> torch.Tensor:
    x = torch.randn(200, 128, generator=torch.Generator().manual_seed(1))
    x[:, torch.arange(outliers) * 17 % 128] *= 50
    return x


def importance(x: torch.Tensor) -> torch.Tensor:
    groups = x.view(len(x), -1, 32).transpose(0, 1)
    return groups.transpose(1, 2) @ groups / len(x)


def loss(weight: torch.Tensor, x: torch.Tensor, factors: torch.Tensor) -> float:
    quantised = round_to_nearest(weight * factors, **GROUPED, importance=divided(importance(x), factors))
    return float((x @ (quantised.dequantise() / factors - weight).T).square().sum())


def search(weight: torch.Tensor, x: torch.Tensor, **more):
    return search_smoothing(weight, x, x.abs().mean(0), importance(x), **GROUPED, **more)


def test_outlier_channels_are_scaled_up_and_lose_less() -> None:
    weight, x = torch.randn(64, 128, generator=torch.Generator().manual_seed(2)), inputs(4)
    found = search(weight, x)
    assert found.alpha > 0
    assert float(found.factors[0]) > float(found.factors[1])
    assert loss(weight, x, found.factors) < 0.8 * loss(weight, x, torch.ones(128))


def test_without_outliers_it_does_no_harm() -> None:
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(2))
    found = search(weight, inputs(0))
    assert loss(weight, inputs(0), found.factors) <= 1.05 * loss(weight, inputs(0), torch.ones(128))


def test_pooled_columns_have_one_factor() -> None:
    weight, x = torch.randn(16, 128, generator=torch.Generator().manual_seed(2)), inputs(4)
    found = search(weight, x, pool=lambda m: m.view(2, 64).mean(0).repeat(2))
    assert torch.equal(found.factors[:64], found.factors[64:])


def test_a_channel_that_is_always_zero_has_a_finite_factor() -> None:
    x = inputs(4)
    x[:, 9] = 0
    found = search(torch.randn(16, 128), x)
    assert bool(torch.isfinite(found.factors).all())
    assert bool((found.factors > 0).all())
