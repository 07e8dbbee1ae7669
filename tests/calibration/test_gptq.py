from dataclasses import replace

import pytest
import torch

from phiedge.calibration.gptq import Feedback, quantise_gptq
from phiedge.calibration.grouped import round_to_nearest
from phiedge.errors import ExportError


def correlated(rows: int, k: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    spectrum = torch.logspace(0, -1.5, k)
    rotation = torch.linalg.qr(torch.randn(k, k, generator=generator))[0]
    return (torch.randn(rows, k, generator=generator) * spectrum) @ rotation


def normal(n: int, k: int) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(2))


def loss(weight: torch.Tensor, found: torch.Tensor, x: torch.Tensor) -> float:
    return float((x @ (found - weight).T).square().sum())


def by_the_book(weight: torch.Tensor, gram: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The published algorithm on given scales, in float64: the inverse, one column after the other, the last first."""
    w, k = weight.double().flip(1).clone(), weight.shape[1]
    upper = torch.linalg.cholesky(torch.linalg.inv(gram.double().flip(0, 1)), upper=True)
    scales = scales.double().repeat_interleave(k // scales.shape[1], dim=1).flip(1)
    codes = torch.zeros_like(w)
    for j in range(k):
        codes[:, j] = (w[:, j] / scales[:, j]).round().clamp(-8, 7)
        error = (w[:, j] - codes[:, j] * scales[:, j]) / upper[j, j]
        w[:, j:] -= error[:, None] * upper[j, j:]
    return codes.flip(1)


def test_the_codes_are_those_of_the_published_algorithm() -> None:
    weight, x = normal(12, 64), correlated(400, 64)
    gram = x.T @ x
    damped = gram + 0.01 * gram.diagonal().mean() * torch.eye(64)
    feedback = Feedback.of(gram.clone(), group_size=32)
    found = quantise_gptq(weight, feedback, bits=4)
    order, groups = feedback.order, feedback.order[::32] // 32
    expected = by_the_book(weight[:, order], damped[order][:, order], found.scales[:, groups])[:, order.argsort()]
    same = (found.codes == expected).double().mean()
    assert float(same) > 0.99, "but for ties that float32 breaks otherwise"


def test_it_loses_less_than_rounding_where_inputs_are_correlated() -> None:
    weight, x = normal(64, 128), correlated(800, 128)
    found = quantise_gptq(weight, Feedback.of(x.T @ x, group_size=64), bits=4)
    rounded = round_to_nearest(weight, group_size=64, bits=4, importance=x.square().mean(0))
    assert loss(weight, found.dequantise(), x) < 0.5 * loss(weight, rounded.dequantise(), x)


def test_without_correlation_it_is_rounding() -> None:
    weight = normal(8, 64)
    found = quantise_gptq(weight, Feedback.of(torch.eye(64), group_size=32), bits=4)
    rounded = round_to_nearest(weight, group_size=32, bits=4)
    assert torch.equal(found.codes, rounded.codes)


def test_smoothing_is_quantising_scaled_columns_for_inputs_that_are_divided() -> None:
    weight, x = normal(16, 64), correlated(400, 64)
    factors = torch.logspace(-0.5, 0.5, 64)
    feedback = Feedback.of(x.T @ x, damping=1e-6, group_size=32)
    smoothed = quantise_gptq(weight, feedback, bits=4, smoothing=factors)
    y = (x / factors)[:, feedback.order]
    factor = torch.linalg.cholesky(y.T @ y)
    divided = replace(feedback, below=factor / factor.diagonal(), pivots=factor.diagonal().square())
    directly = quantise_gptq(weight * factors, divided, bits=4)
    assert float((smoothed.codes == directly.codes).float().mean()) > 0.97
    assert loss(weight, smoothed.dequantise() / factors, x) == pytest.approx(
        loss(weight, directly.dequantise() / factors, x), rel=0.05
    )


def test_outliers_are_made_up_for_wherever_they_stand() -> None:
    losses = []
    for place in (0, 95):
        weight, x = normal(32, 96), correlated(600, 96)
        x[:, place] = 20 * x[:, 40]
        found = quantise_gptq(weight, Feedback.of(x.T @ x, group_size=32), bits=4)
        losses.append(loss(weight, found.dequantise(), x))
    assert 0.5 < losses[0] / losses[1] < 2


def test_groups_stay_in_the_order_of_the_columns() -> None:
    weight, x = normal(4, 96), correlated(300, 96)
    found = quantise_gptq(weight, Feedback.of(x.T @ x, group_size=32), bits=4)
    assert found.group_size == 32
    assert torch.equal(found.scales, found.scales.half().float())


def test_a_matrix_that_is_not_positive_definite_is_damped_more() -> None:
    gram = torch.ones(8, 8) * 100 - torch.eye(8) * 5
    assert Feedback.of(gram, group_size=8).damping > 0.01


def test_columns_that_never_see_an_input_do_no_harm() -> None:
    weight, x = normal(4, 32), correlated(100, 32)
    x[:, 3] = 0
    assert bool(torch.isfinite(quantise_gptq(weight, Feedback.of(x.T @ x, group_size=32), bits=4).dequantise()).all())
    assert Feedback.of(torch.zeros(4, 4), group_size=4).pivots.tolist() == pytest.approx([0.01] * 4)


def test_inputs_that_are_not_finite_are_refused_by_name() -> None:
    with pytest.raises(ExportError, match="inputs of layer 3, qkv are not finite"):
        Feedback.of(torch.full((2, 2), torch.nan), group_size=2, told="layer 3, qkv")
