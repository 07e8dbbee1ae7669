"""How far the quantised decoder is from the original: next-token distributions on held-out rows, by kind of row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from phiedge.calibration.samples import Kind

_ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Over `rows`: the mean of KL(original || quantised) in nats, and how often the likeliest token is the same."""

    rows: int
    kl_mean: float
    top1_agreement: float


def compare_rows(
    original: Tensor, quantised: Tensor, kinds: Tensor, head: Tensor, names: Sequence[Kind] = tuple(Kind)
) -> Mapping[str, Divergence]:
    """Compare normed rows [m, hidden] of both models through the same `head: [vocab, hidden]`; `kinds: [m]`."""
    kl, same = [], []
    for first in range(0, len(kinds), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        a, b = (
            functional.log_softmax(functional.linear(part[rows].to(head.dtype), head).float(), dim=-1)
            for part in (original, quantised)
        )
        kl.append((a.exp() * (a - b)).sum(-1))
        same.append(a.argmax(-1) == b.argmax(-1))
    all_kl, all_same = torch.cat(kl), torch.cat(same)
    chosen = {"all": torch.ones_like(all_same)} | {kind.name.lower(): kinds == kind.value for kind in names}
    return {
        name: Divergence(
            rows=int(mask.sum()),
            kl_mean=_short(float(all_kl[mask].mean())),
            top1_agreement=_short(float(all_same[mask].float().mean())),
        )
        for name, mask in chosen.items()
        if bool(mask.any())
    }


def _short(value: float) -> float:
    return float(f"{value:.6g}")
