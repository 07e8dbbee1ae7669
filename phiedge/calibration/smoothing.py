"""AWQ: columns whose inputs are large are scaled up before rounding, and their inputs down by the same numbers.

The numbers, mean|x|^alpha, are folded into what makes the inputs, so nothing remains of them at inference; `alpha` is
the one that loses least on a few rows of real inputs. Lin et al., arXiv 2306.00978.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from phiedge.calibration.grouped import round_to_nearest

Pool: TypeAlias = Callable[[Tensor], Tensor]

ALPHAS = tuple(step / 10 for step in range(11))
_FINER = (-0.05, 0.05)
_SEARCH_SHRINKS = (1.0, 0.9, 0.8)
_MOST_ROWS = 2048  # of a weight, which stand for all in the search
_RANGE = 1e3  # no column is scaled by more, or less than its inverse


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoothing:
    """`factors: [K]`: the columns are multiplied by them, their inputs divided. `alpha` 0 means that all are 1."""

    factors: Tensor
    alpha: float


def each_column(magnitudes: Tensor) -> Tensor:
    """Every column has a factor of its own."""
    return magnitudes


def search_smoothing(
    weight: Tensor,
    rows: Tensor,
    magnitudes: Tensor,
    importance: Tensor,
    *,
    group_size: int,
    bits: int,
    pool: Pool = each_column,
    alphas: Sequence[float] = ALPHAS,
) -> Smoothing:
    """The best smoothing of `weight: [n, K]` for inputs like `rows: [m, K]`, whose mean |x| are `magnitudes: [K]`.

    `importance` is their mean x x^T within groups. `pool` makes the factors alike that one number upstream stands for.
    """
    step = max(1, weight.shape[0] // _MOST_ROWS)
    some = weight[::step].contiguous()
    pooled = pool(magnitudes)

    def loss(alpha: float) -> float:
        factors = _factors(pooled, alpha)
        quantised = round_to_nearest(
            some * factors,
            group_size=group_size,
            bits=bits,
            importance=divided(importance, factors),
            shrinks=_SEARCH_SHRINKS,
        )
        difference = quantised.dequantise().div_(factors).sub_(some)
        return float((rows @ difference.T).square().sum())

    losses = {alpha: loss(alpha) for alpha in alphas}
    best = min(losses, key=losses.__getitem__)
    for step_aside in _FINER:
        alpha = round(best + step_aside, 3)
        if 0 < alpha < 1.2 and alpha not in losses:
            losses[alpha] = loss(alpha)
    best = min(losses, key=losses.__getitem__)
    return Smoothing(factors=_factors(pooled, best), alpha=best)


def divided(importance: Tensor, factors: Tensor) -> Tensor:
    """The mean x x^T within groups [g, size, size] once inputs are divided by their `factors`."""
    by_group = factors.view(importance.shape[0], -1)
    return importance / (by_group[:, :, None] * by_group[:, None, :])


def _factors(magnitudes: Tensor, alpha: float) -> Tensor:
    if alpha == 0:
        return torch.ones_like(magnitudes)
    raised = magnitudes.clamp(min=1e-6 * float(magnitudes.max()) + 1e-30).pow(alpha)
    centred = raised / (raised.max() * raised.min()).sqrt()
    return centred.clamp(1 / _RANGE, _RANGE)
