"""What is kept of the inputs of one linear: sums over all calibration rows, and some of the rows themselves.

Rows have weights, so that the thousands of rows of a picture do not own the sums. A few hundred rows stand for all of
them where a method tries many things (`searched`), and rows of samples that no method saw judge the result (`held`).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from phiedge.calibration.grouped import check_group_size
from phiedge.errors import ExportError

_COLUMNS_AT_ONCE = 512  # of the Gram matrix, of which only the lower triangle is summed


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRoles:
    """What each row of one sample is for. weights: float32 [t], 0 where a row is in no sum; searched, held: indices."""

    weights: Tensor
    searched: Tensor
    held: Tensor


@dataclass(slots=True, kw_only=True)
class InputStatistics:
    """Sums over weighted rows x [t, K]: |x|, x x^T within each group of columns, and over all of them `with_gram`.

    `largest` is max |x| by column. What is within groups is cut out of the whole where that is summed in float32.
    """

    told: str
    columns: int
    group_size: int
    with_gram: bool
    weight: float = 0.0
    absolute: Tensor = field(init=False)
    group_grams: Tensor = field(init=False)
    largest: Tensor = field(init=False)
    gram: Tensor | None = field(init=False)
    _groups_in_gram: bool = False
    _searched: list[Tensor] = field(default_factory=list)
    _held: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_group_size(self.columns, self.group_size)
        self.absolute, self.largest = torch.zeros(self.columns), torch.zeros(self.columns)
        self.group_grams = torch.zeros(self.columns // self.group_size, self.group_size, self.group_size)
        self.gram = torch.zeros(self.columns, self.columns) if self.with_gram else None

    def add(self, rows: Tensor, roles: RowRoles, *, sample: str) -> None:
        """Take the rows [t, K] of one sample. Raises `ExportError` where one is not finite."""
        x = rows.to(torch.float32)
        if not bool(torch.isfinite(x.sum())):
            raise ExportError(
                f"sample {sample}: the inputs of {self.told} are not all numbers",
                remedy="leave the sample out; if every sample does it, the checkpoint is damaged",
            )
        self._searched.append(x[roles.searched])
        self._held.append(x[roles.held])
        weights = roles.weights
        if not bool(weights.any()):
            return
        self.weight += float(weights.sum())
        sizes = x.abs()
        self.absolute.addmv_(sizes.T, weights)
        torch.maximum(self.largest, sizes.amax(0), out=self.largest)
        weighted = x * weights.sqrt()[:, None]
        self._groups_in_gram = self.gram is not None and rows.dtype == torch.float32
        if not self._groups_in_gram:
            groups = weighted.view(len(x), -1, self.group_size).transpose(0, 1)
            self.group_grams.baddbmm_(groups.transpose(1, 2), groups)
        if self.gram is not None:
            _add_lower(self.gram, weighted, rows.dtype)

    @property
    def magnitudes(self) -> Tensor:
        """The mean |x| by column."""
        return self.absolute / max(self.weight, 1e-12)

    @property
    def importance(self) -> Tensor:
        """The mean x x^T within each group [K / group_size, group_size, group_size]; `gram` must still be there."""
        sums = self.group_grams
        if self._groups_in_gram:
            assert self.gram is not None
            sums = _within_groups(self.gram, self.group_size)
        return sums / max(self.weight, 1e-12)

    @property
    def searched(self) -> Tensor:
        """[m, K]."""
        return torch.cat(self._searched)

    @property
    def held(self) -> Tensor:
        """[m, K]."""
        return torch.cat(self._held)


def _within_groups(gram: Tensor, size: int) -> Tensor:
    """The blocks [K / size, size, size] along the diagonal of `gram`, whose lower triangle is known."""
    groups = torch.arange(len(gram) // size)
    lower = gram.view(len(groups), size, len(groups), size)[groups, :, groups].tril()
    return lower + lower.tril(-1).transpose(1, 2)


def _add_lower(gram: Tensor, x: Tensor, dtype: torch.dtype) -> None:
    """gram += x^T x in the lower triangle; products in `dtype`, the type that the model computes in."""
    k = gram.shape[0]
    narrow = x.to(dtype)
    for first in range(0, k, _COLUMNS_AT_ONCE):
        block = slice(first, min(first + _COLUMNS_AT_ONCE, k))
        if dtype == torch.float32:
            gram[first:, block].addmm_(narrow[:, first:].T, narrow[:, block])
        else:
            gram[first:, block] += narrow[:, first:].T @ narrow[:, block]
