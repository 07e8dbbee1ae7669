"""Codes and scales as torch tensors while they are being chosen, and the scales that lose least.

A group's scale covers its largest weight, or clips it: a somewhat smaller scale resolves the many small weights better
and cuts the few large ones. Which is better depends on the inputs: what an error costs is its `importance`. All scales
are rounded to float16 *before* codes are chosen, as in `int4.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phiedge.errors import ExportError
from phiedge.exporters.quantised import QuantisedWeight

COVERING = (1.0,)  # no clipping
SHRINKS = (1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.76, 0.72, 0.66, 0.6)
SMALLEST_SCALE, LARGEST_SCALE = 2.0**-24, 65504.0  # of float16
_WEIGHTS_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped:
    """codes: int8 [n, K]; scales: float32 [n, K / group_size], positive, each a float16."""

    codes: Tensor
    scales: Tensor
    bits: int

    @property
    def group_size(self) -> int:
        return self.codes.shape[1] // self.scales.shape[1]

    def dequantise(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weights [n, K] that these codes stand for."""
        n, k = self.codes.shape
        groups = self.codes.view(n, -1, self.group_size).to(torch.float32) * self.scales[:, :, None]
        return groups.view(n, k).to(dtype)

    def with_rows_times(self, factors: Tensor) -> "Grouped":
        """Every row times its factor [n], which moves into the scales; they are rounded to float16 once more."""
        return Grouped(codes=self.codes, scales=to_float16(self.scales * factors[:, None]), bits=self.bits)

    def weight(self) -> QuantisedWeight:
        """The value that the exporter's weight writer takes."""
        return QuantisedWeight.of_codes(
            self.codes.numpy(), self.scales.numpy(), bits=self.bits, group_size=self.group_size
        )


def check_group_size(k: int, group_size: int) -> None:
    """Raises `ExportError` where groups do not fill K."""
    if k % group_size:
        raise ExportError(
            f"K = {k} is not a multiple of the group size {group_size}", remedy="use a group size that divides K"
        )


def to_float16(scales: Tensor) -> Tensor:
    """The nearest float16 as float32, not below the smallest; raises `ExportError` for what is too large."""
    rounded = scales.clamp(min=SMALLEST_SCALE).to(torch.float16).to(torch.float32)
    if not bool(torch.isfinite(rounded).all()):
        raise ExportError(
            f"a group's scale exceeds float16: {float(scales.max()):g}",
            remedy="export with --precision fp32, if these weights are meant to be so large",
        )
    return rounded


def covering_scales(groups: Tensor, bits: int) -> Tensor:
    """For groups [..., group_size] the smallest scales [...] that clip nothing, before rounding."""
    top = 2 ** (bits - 1)
    return torch.maximum(groups.amax(-1) / (top - 1), groups.amin(-1) / -top)


def choose_scales(
    weight: Tensor, importance: Tensor | None, *, group_size: int, bits: int, shrinks: Sequence[float] = SHRINKS
) -> Tensor:
    """Scales [n, K / group_size] for `weight: [n, K]`, each the best of its covering scale times `shrinks`.

    Best is the least error. `importance: [K]` weights the squares of errors by column; [K / group_size, group_size,
    group_size] is the Gram matrix of each group's inputs, which also knows how errors add up; None: all alike.
    """
    n, k = weight.shape
    check_group_size(k, group_size)
    scales = weight.new_empty(n, k // group_size)
    shares = importance.view(-1, group_size) if importance is not None and importance.ndim == 1 else importance
    step = max(1, _WEIGHTS_AT_ONCE // k)
    for first in range(0, n, step):
        groups = weight[first : first + step].reshape(-1, k // group_size, group_size)
        scales[first : first + step] = _best_scales(groups, shares, bits, shrinks)
    return scales


def _best_scales(groups: Tensor, shares: Tensor | None, bits: int, shrinks: Sequence[float]) -> Tensor:
    covering = covering_scales(groups, bits)
    best = to_float16(covering * shrinks[0])
    if len(shrinks) == 1:
        return best
    least = _errors(groups, best, shares, bits)
    for shrink in shrinks[1:]:
        scales = to_float16(covering * shrink)
        errors = _errors(groups, scales, shares, bits)
        better = errors < least
        best, least = torch.where(better, scales, best), torch.where(better, errors, least)
    return best


def _errors(groups: Tensor, scales: Tensor, shares: Tensor | None, bits: int) -> Tensor:
    top = 2 ** (bits - 1)
    wide = scales[..., None]
    difference = (groups / wide).round_().clamp_(-top, top - 1).mul_(wide).sub_(groups)
    if shares is None:
        return difference.square_().sum(-1)
    if shares.ndim == 2:
        return difference.square_().mul_(shares).sum(-1)
    added_up = torch.bmm(difference.transpose(0, 1), shares).transpose(0, 1)
    return added_up.mul_(difference).sum(-1)


def round_to(weight: Tensor, scales: Tensor, bits: int) -> Grouped:
    """The nearest codes for given scales."""
    n, k = weight.shape
    top = 2 ** (bits - 1)
    group_size = k // scales.shape[1]
    codes = weight.new_empty(n, k, dtype=torch.int8)
    step = max(1, _WEIGHTS_AT_ONCE // k)
    for first in range(0, n, step):
        groups = weight[first : first + step].reshape(-1, k // group_size, group_size)
        rounded = (groups / scales[first : first + step, :, None]).round_().clamp_(-top, top - 1)
        codes[first : first + step] = rounded.view(-1, k).to(torch.int8)
    return Grouped(codes=codes, scales=scales, bits=bits)


def round_to_nearest(
    weight: Tensor,
    *,
    group_size: int,
    bits: int,
    importance: Tensor | None = None,
    shrinks: Sequence[float] = SHRINKS,
) -> Grouped:
    """Round-to-nearest with the scales of `choose_scales`."""
    scales = choose_scales(weight, importance, group_size=group_size, bits=bits, shrinks=shrinks)
    return round_to(weight, scales, bits)
