"""One linear: every method that was asked for, and the one that loses least on rows that no method saw."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from phiedge.calibration.gptq import Feedback, quantise_gptq
from phiedge.calibration.grouped import COVERING, LARGEST_SCALE, Grouped, round_to_nearest
from phiedge.calibration.smoothing import Pool, Smoothing, divided, each_column, search_smoothing
from phiedge.calibration.statistics import InputStatistics
from phiedge.errors import ExportError, UsageError

Method: TypeAlias = Literal["rtn", "clip", "awq", "gptq", "awq+gptq"]
METHODS: tuple[Method, ...] = get_args(Method)
_ROWS_AT_ONCE = 8192  # of a weight whose error is measured: a head has a hundred thousand
# What can be asked for by name; of several methods the best is taken for each linear.
CHOICES: Mapping[str, tuple[Method, ...]] = {
    "auto": METHODS,
    "rtn": ("rtn", "clip"),
    "awq": ("rtn", "clip", "awq"),
    "gptq": ("rtn", "clip", "gptq"),
    "awq+gptq": ("awq+gptq",),
}
_UNSMOOTHED: Mapping[Method, Method] = {"awq": "clip", "awq+gptq": "gptq"}
# Smoothing must lose this much less than what does without. Smaller differences on a few held-out rows are not repeated
# by other rows (docs/decisions/0902-which-method-for-which-linear.md).
_WORTH = 0.97


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Which `methods` compete for each linear, and the format that they fill.

    A head of 4 bits (`head_bits`) is calibrated, too, in the same groups; one of 8 bits, or of none, is not.
    """

    methods: tuple[Method, ...] = METHODS
    group_size: int = 128
    bits: int = 4
    head_bits: int | None = None

    def __post_init__(self) -> None:
        unknown = [method for method in self.methods if method not in METHODS]
        if unknown or not self.methods:
            raise UsageError(f"there is no method {unknown or 'at all'}", remedy=f"use some of {', '.join(METHODS)}")

    @property
    def unsmoothed(self) -> "Settings":
        """The same for a linear whose inputs cannot be smoothed: each method as it is without."""
        return replace(self, methods=tuple(dict.fromkeys(_UNSMOOTHED.get(method, method) for method in self.methods)))

    @property
    def needs_gram(self) -> bool:
        return any("gptq" in method for method in self.methods)

    @property
    def needs_smoothing(self) -> bool:
        return any("awq" in method for method in self.methods)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What became of one linear: codes for its smoothed weight, and what each method lost.

    `errors`: |X (W - Q)^T|^2 / |X W^T|^2 over the held rows X, by method. `smoothing` is all ones where the chosen
    method does not smooth; it is not in the codes' favour any more once it is folded upstream.
    """

    method: Method
    quantised: Grouped
    smoothing: Smoothing
    errors: Mapping[Method, float]


def choose_codes(weight: Tensor, inputs: InputStatistics, settings: Settings, pool: Pool = each_column) -> Chosen:
    """Quantise `weight: [n, K]` float32 by every method of `settings` and keep the best.

    Raises `ExportError` for weights that no scale of a float16 covers, and for inputs that give no factor.
    """
    _check_largest(weight, inputs.told, settings.bits)
    importance = inputs.importance
    none = Smoothing(factors=torch.ones(weight.shape[1]), alpha=0.0)
    smoothing = none
    if settings.needs_smoothing:
        smoothing = search_smoothing(
            weight,
            inputs.searched,
            inputs.magnitudes,
            importance,
            group_size=settings.group_size,
            bits=settings.bits,
            pool=pool,
        )
    feedback = None
    if settings.needs_gram:
        assert inputs.gram is not None
        feedback = Feedback.of(inputs.gram, group_size=settings.group_size, told=inputs.told)
        inputs.gram = None  # a gigabyte
    held = inputs.held
    reference = sum(float((held @ weight[rows].T).square().sum()) for rows in _some_rows(weight))
    errors: dict[Method, float] = {}
    best: tuple[Method, Grouped] | None = None
    for method in settings.methods:
        factors = smoothing.factors if "awq" in method else none.factors
        quantised = _quantise(method, weight, factors, importance, feedback, settings)
        errors[method] = _error(weight, quantised, factors, held) / max(reference, 1e-30)
        if best is None or errors[method] < _worth(best[0], method) * errors[best[0]]:
            best = method, quantised
    assert best is not None
    return Chosen(
        method=best[0],
        quantised=best[1],
        smoothing=smoothing if "awq" in best[0] else none,
        errors=errors,
    )


def _check_largest(weight: Tensor, told: str, bits: int) -> None:
    largest, most = float(weight.abs().max()), LARGEST_SCALE * (2 ** (bits - 1) - 1)
    if largest > most:
        raise ExportError(
            f"the weights of {told} reach {largest:g}, {bits} bits under a float16 scale {most:g}",
            remedy="export with --precision fp32, if these weights are meant to be so large",
        )


def _worth(simpler: Method, method: Method) -> float:
    """Smoothing is bound to what calibration saw, and rounds scales upstream once more: it has to be worth it."""
    return _WORTH if "awq" in method and "awq" not in simpler else 1.0


def _quantise(
    method: Method, weight: Tensor, factors: Tensor, importance: Tensor, feedback: Feedback | None, settings: Settings
) -> Grouped:
    group_size, bits = settings.group_size, settings.bits
    if "gptq" in method:
        assert feedback is not None
        return quantise_gptq(weight, feedback, bits=bits, smoothing=factors)
    if method == "rtn":
        return round_to_nearest(weight, group_size=group_size, bits=bits, shrinks=COVERING)
    smoothed = weight * factors if "awq" in method else weight
    return round_to_nearest(smoothed, group_size=group_size, bits=bits, importance=divided(importance, factors))


def _error(weight: Tensor, quantised: Grouped, factors: Tensor, rows: Tensor) -> float:
    error = 0.0
    for some in _some_rows(weight):
        part = Grouped(codes=quantised.codes[some], scales=quantised.scales[some], bits=quantised.bits)
        difference = part.dequantise().div_(factors).sub_(weight[some])
        error += float((rows @ difference.T).square().sum())
    return error


def _some_rows(weight: Tensor) -> Iterator[slice]:
    for first in range(0, weight.shape[0], _ROWS_AT_ONCE):
        yield slice(first, min(first + _ROWS_AT_ONCE, weight.shape[0]))
