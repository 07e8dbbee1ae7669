"""Numbers of 8 bits with one scale: float8 (E4M3) for weights and activations, float8 or int8 for the cache.

A number is stored as the nearest of 256, times a scale. Scales of activations are fixed before inference ("static"),
one for a tensor, which is what engines for float8 read; those of weights are one for each row, or for all. A scale that
covers the largest number ever seen may waste the fine steps on it: in float8 hardly, as its steps grow with the
numbers; in int8 very much so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Format: TypeAlias = Literal["float8", "int8"]
Rule: TypeAlias = Literal["max", "percentile", "mse"]
LARGEST: Mapping[Format, float] = {"float8": 448.0, "int8": 127.0}  # E4M3 has no infinities
PERCENTILE = 0.9999
SHRINKS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
_MOST_SORTED = 1 << 22  # numbers of which a percentile is taken


def rounded(x: Tensor, scale: Tensor | float, form: Format) -> Tensor:
    """The numbers that `x` is stored as, as float32; what is too large is clipped."""
    most = LARGEST[form]
    scaled = (x.to(torch.float32) / scale).clamp(-most, most)
    stored = scaled.to(torch.float8_e4m3fn).to(torch.float32) if form == "float8" else scaled.round()
    return stored * scale


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticScale:
    """One scale for a tensor of activations, the rule that found it, and what each rule loses: |x' - x|^2 / |x|^2."""

    scale: float
    rule: Rule
    errors: Mapping[Rule, float]


def static_scale(rows: Tensor, largest: float, form: Format) -> StaticScale:
    """The best scale for numbers like `rows`, the largest of which, over all samples, is `largest`."""
    scales = rule_scales(rows, largest, form)
    errors = {rule: relative_loss(rows, scale, form) for rule, scale in scales.items()}
    best = min(errors, key=errors.__getitem__)
    return StaticScale(scale=scales[best], rule=best, errors=errors)


def relative_loss(rows: Tensor, scale: float, form: Format) -> float:
    """|x' - x|^2 / |x|^2."""
    x = rows.to(torch.float32)
    return float((rounded(x, scale, form) - x).square().sum()) / max(float(x.square().sum()), 1e-30)


def rule_scales(rows: Tensor, largest: float, form: Format) -> dict[Rule, float]:
    """The scale that each rule finds for numbers like `rows`, the largest of which is `largest`."""
    flat = rows.to(torch.float32).flatten()
    most = LARGEST[form]
    covering = max(largest, 1e-12) / most
    some = flat.abs()[:: max(1, flat.numel() // _MOST_SORTED)].contiguous()
    percentile = max(float(some.kthvalue(max(1, round(PERCENTILE * some.numel()))).values), 1e-12) / most
    return {
        "max": covering,
        "percentile": percentile,
        "mse": min((covering * shrink for shrink in SHRINKS), key=lambda scale: relative_loss(flat, scale, form)),
    }
