"""GPTQ: columns are rounded one after the other, and those still to come make up for what rounding did.

With the Gram matrix H of the inputs, the error of a row's codes is e H e^T for e = w - q. Let H = L L^T; then

    e H e^T = sum over j of L_jj^2 (e_j + sum over k > j of e_k L_kj / L_jj)^2

so, going from the last column to the first, the best code for column j is the nearest to
w_j + sum over k > j of e_k L_kj / L_jj. That needs one Cholesky factorisation and no inverse. It is the algorithm of
Frantar et al. (arXiv 2210.17323) in the form of Chee et al. (arXiv 2307.13304, section 3), with the order reversed.
The columns with the largest inputs come first, because those still to come can make up for them: the groups in the
order of their inputs, and so the columns within each. Groups stay whole and codes stay where they are, so nothing of
the order is in the result (what others call "act-order" regroups the columns, which few readers know).

A group's scale is chosen when its turn comes, for the weights as corrected so far.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from phiedge.calibration.grouped import SHRINKS, Grouped, check_group_size, choose_scales
from phiedge.errors import ExportError

DAMPING = 0.01  # of the mean of the diagonal, added to it; as in the paper's own code
_MOST_DAMPING = 1.0
_COLUMNS_AT_ONCE = 1024  # of a Gram matrix that is put in order
_ROWS_AT_ONCE = 4096  # 128 columns of them stay in the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """The factor of a damped Gram matrix: `below` [K, K] has L_kj / L_jj for k > j, `pivots` [K] has L_jj^2.

    Both are in `order` [K], which ends with the column that is rounded first.
    """

    below: Tensor
    pivots: Tensor
    order: Tensor
    group_size: int
    damping: float

    @staticmethod
    def of(gram: Tensor, *, group_size: int, damping: float = DAMPING, told: str = "a linear") -> "Feedback":
        """Factor `gram`, whose lower triangle is read and whose diagonal is damped, more where that is not enough.

        `gram` is used up.

        Raises `ExportError` where no damping helps, or where inputs were not finite.
        """
        diagonal = gram.diagonal()
        mean = float(diagonal.mean())
        if not math.isfinite(mean):
            raise ExportError(f"the inputs of {told} are not finite", remedy="look at the calibration samples")
        mean = mean if mean > 0 else 1.0
        order = _order(diagonal, group_size)
        gram = _reordered(gram, order)
        diagonal = gram.diagonal()
        added = 0.0
        while damping <= _MOST_DAMPING:
            diagonal.add_((damping - added) * mean)
            added = damping
            factor, failed = torch.linalg.cholesky_ex(gram)
            if not int(failed):
                roots = factor.diagonal().clone()
                return Feedback(
                    below=factor.div_(roots), pivots=roots.square(), order=order, group_size=group_size, damping=damping
                )
            del factor  # as large as the matrix
            damping *= 10
        raise ExportError(f"the Gram matrix of {told} has no factor", remedy="give more and other calibration samples")


def _order(diagonal: Tensor, group_size: int) -> Tensor:
    """Groups by the size of their inputs, the largest last, and so the columns within each."""
    check_group_size(len(diagonal), group_size)
    by_group = diagonal.view(-1, group_size)
    groups = by_group.sum(1).argsort(stable=True)
    within = by_group.argsort(dim=1, stable=True)
    return (within[groups] + groups[:, None] * group_size).flatten()


def _reordered(gram: Tensor, order: Tensor) -> Tensor:
    """The whole matrix in `order`; of `gram`, which has its lower triangle only, the upper is filled."""
    k = len(order)
    for first in range(0, k, _COLUMNS_AT_ONCE):
        block = slice(first, min(first + _COLUMNS_AT_ONCE, k))
        square = gram[block, block].tril()
        gram[block, block] = square + square.tril(-1).T
        gram[block, block.stop :] = gram[block.stop :, block].T
    reordered = torch.empty_like(gram)
    for first in range(0, k, _COLUMNS_AT_ONCE):
        rows = slice(first, min(first + _COLUMNS_AT_ONCE, k))
        reordered[rows] = gram[order[rows]][:, order]
    return reordered


def quantise_gptq(weight: Tensor, feedback: Feedback, *, bits: int, smoothing: Tensor | None = None) -> Grouped:
    """Codes for `weight: [n, K]`; with `smoothing: [K]` they are those of `weight * smoothing`.

    Scaled columns change nothing but the groups' scales, as their inputs are divided by the same numbers.
    """
    n, k = weight.shape
    order, size = feedback.order, feedback.group_size
    groups = order.view(-1, size)[:, 0] // size
    smoothing = None if smoothing is None else smoothing[order]
    codes = torch.empty(n, k, dtype=torch.int8)
    scales = torch.empty(n, k // size)
    for first in range(0, n, _ROWS_AT_ONCE):
        rows = slice(first, min(first + _ROWS_AT_ONCE, n))
        some = weight[rows][:, order]
        some_codes, some_scales = torch.empty_like(some, dtype=torch.int8), torch.empty(len(some), k // size)
        _quantise_rows(some, feedback, smoothing, bits, some_codes, some_scales)
        codes[rows] = some_codes[:, order.argsort()]
        scales[rows] = some_scales[:, groups.argsort()]
    return Grouped(codes=codes, scales=scales, bits=bits)


def _quantise_rows(
    weight: Tensor, feedback: Feedback, smoothing: Tensor | None, bits: int, codes: Tensor, scales: Tensor
) -> None:
    n, k = weight.shape
    groups = scales.shape[1]
    size = k // groups
    errors = torch.zeros(k, n)  # transposed: what belongs to one column is contiguous
    for group in reversed(range(groups)):
        columns = slice(group * size, (group + 1) * size)
        targets = weight[:, columns].T.contiguous()
        targets.addmm_(feedback.below[columns.stop :, columns].T, errors[columns.stop :])
        factors = torch.ones(size) if smoothing is None else smoothing[columns]
        chosen = choose_scales(
            (targets * factors[:, None]).T.contiguous(),
            feedback.pivots[columns] / factors.square(),
            group_size=size,
            bits=bits,
            shrinks=SHRINKS,
        )
        scales[:, group : group + 1] = chosen
        rounded = _round_group(weight[:, columns].T, targets, feedback.below[columns, columns], chosen, factors, bits)
        codes[:, columns] = rounded.codes.T
        errors[columns] = rounded.errors


@dataclass(frozen=True, slots=True, kw_only=True)
class _RoundedGroup:
    codes: Tensor  # int8 [size, n]
    errors: Tensor  # [size, n]


def _round_group(
    weight: Tensor, targets: Tensor, below: Tensor, scales: Tensor, factors: Tensor, bits: int
) -> _RoundedGroup:
    """Round the columns of one group, the last first; `targets: [size, n]` are used up."""
    size, n = targets.shape
    top = 2 ** (bits - 1)
    codes = torch.empty(size, n)
    errors = torch.empty(size, n)
    scale = scales[:, 0]
    for j in reversed(range(size)):
        factor = float(factors[j])
        torch.div(targets[j], scale, out=codes[j])
        codes[j].mul_(factor).round_().clamp_(-top, top - 1)
        torch.mul(codes[j], scale, out=errors[j])
        torch.sub(weight[j], errors[j].div_(factor), out=errors[j])
        if j:
            targets[:j].addr_(below[j, :j], errors[j])
    return _RoundedGroup(codes=codes.to(torch.int8), errors=errors)
