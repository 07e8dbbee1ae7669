"""One linear in 8-bit floats: a scale for all of its input, one for each row of its weight or for all, and the codes.

    the input    rules of `eight_bits.py` compete: what covers all that was seen, a percentile, the least square error
    the weight   rtn    under the scale that covers it, rounded to nearest
                 mse    under the scale that loses least, by the size of the inputs
                 gptq   and column by column, those still to come making up for each error

Each is judged by the output, on rows that no method saw: the rules with the weight as it is, the methods with the input
rounded by the rule that won. 8-bit floats have 3 bits of mantissa: what rounding to nearest loses hardly depends on the
scale, about 2.6 percent of each number, and only feedback gets below that. So one scale for a whole weight loses little
more than one for each row: it takes from the rows that are small what lies below the range of the exponents.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from phiedge.calibration.artefact import InputScale
from phiedge.calibration.eight_bits import LARGEST, Rule, rounded, rule_scales
from phiedge.calibration.gptq import Feedback
from phiedge.calibration.statistics import InputStatistics
from phiedge.errors import ExportError, UsageError
from phiedge.exporters.float8 import LARGEST_SCALED, Float8Weight

Float8Method: TypeAlias = Literal["rtn", "mse", "gptq"]
FLOAT8_METHODS: tuple[Float8Method, ...] = get_args(Float8Method)
WeightScales: TypeAlias = Literal["row", "tensor"]
WEIGHT_SCALES: tuple[WeightScales, ...] = get_args(WeightScales)
# What can be asked for by name. Smoothing (AWQ) has nothing to give: a column times a power of two has the same
# mantissas, so only what leaves the range of the exponents would gain.
FLOAT8_CHOICES: Mapping[str, tuple[Float8Method, ...]] = {
    "auto": FLOAT8_METHODS,
    "rtn": ("rtn", "mse"),
    "gptq": FLOAT8_METHODS,
}
# An octave of scales that clip nothing and put the numbers elsewhere between the steps, and a few that clip.
_STRETCHES = tuple(2 ** (step / 8) for step in range(-3, 8))
_SMALLEST_SCALE = 2.0**-14  # the smallest float16 that is normal
_COLUMNS_AT_ONCE = 128
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Float8Settings:
    """Which `methods` compete for the weight of each linear, and what has a scale: each row, or the whole weight.

    The whole weight of a fused linear is that of q, k and v, or of gate and up: engines that cut them apart, and those
    that join them again, then find the same scale in all parts.
    """

    methods: tuple[Float8Method, ...] = FLOAT8_METHODS
    weight_scales: WeightScales = "row"

    def __post_init__(self) -> None:
        unknown = [method for method in self.methods if method not in FLOAT8_METHODS]
        if unknown or not self.methods:
            raise UsageError(
                f"there is no method {unknown or 'at all'}", remedy=f"use some of {', '.join(FLOAT8_METHODS)}"
            )
        if self.weight_scales not in WEIGHT_SCALES:
            raise UsageError(
                f"there are no scales for each {self.weight_scales!r}", remedy=f"use {' or '.join(WEIGHT_SCALES)}"
            )

    @property
    def needs_gram(self) -> bool:
        return "gptq" in self.methods


@dataclass(frozen=True, slots=True, kw_only=True)
class Float8Codes:
    """`codes` float8 [n, K] under `scales` [n, 1], each a normal float16, all the same where a weight has one."""

    codes: Tensor
    scales: Tensor

    def dequantise(self) -> Tensor:
        """The weights [n, K] that these codes stand for."""
        return self.codes.to(torch.float32) * self.scales

    def weight(self) -> Float8Weight:
        """The value that the exporter's weight writer takes."""
        return Float8Weight(codes=self.codes.view(torch.uint8).numpy(), scales=self.scales[:, 0].numpy())


@dataclass(frozen=True, slots=True, kw_only=True)
class Float8Chosen:
    """What became of one linear. `errors`: |Q(X) Q(W)^T - X W^T|^2 / |X W^T|^2 over the held rows X, by method."""

    input_scale: InputScale
    method: Float8Method
    codes: Float8Codes
    errors: Mapping[Float8Method, float]


def choose_float8(weight: Tensor, inputs: InputStatistics, settings: Float8Settings) -> Float8Chosen:
    """Find the scale of the input and the codes of `weight: [n, K]` float32, which must not be larger than fits."""
    _check_largest(weight, inputs.told)
    wanted = inputs.held @ weight.T
    size = max(float(wanted.square().sum()), 1e-30)
    input_scale = _choose_input(weight, inputs, wanted, size)
    held = rounded(inputs.held, input_scale.scale, "float8")
    covering = _covering_scales(weight, settings.weight_scales)
    scales = covering
    if settings.methods != ("rtn",):
        scales = _best_scales(weight, covering, inputs.importance.flatten(), settings.weight_scales)
    feedback = None
    if settings.needs_gram:
        assert inputs.gram is not None
        feedback = Feedback.of(inputs.gram, group_size=1, told=inputs.told)
        inputs.gram = None  # a gigabyte
    errors: dict[Float8Method, float] = {}
    best: tuple[Float8Method, Float8Codes] | None = None
    for method in settings.methods:
        if method == "gptq":
            assert feedback is not None
            codes = with_feedback(weight, scales, feedback)
        else:
            codes = nearest(weight, covering if method == "rtn" else scales)
        errors[method] = _output_error(held, codes, wanted) / size
        if best is None or errors[method] < errors[best[0]]:
            best = method, codes
    assert best is not None
    return Float8Chosen(input_scale=input_scale, method=best[0], codes=best[1], errors=errors)


def nearest(weight: Tensor, scales: Tensor) -> Float8Codes:
    """The nearest codes under given scales [n, 1]."""
    codes = torch.empty(weight.shape, dtype=torch.float8_e4m3fn)
    for rows in _some_rows(weight):
        codes[rows] = _coded(weight[rows] / scales[rows])
    return Float8Codes(codes=codes, scales=scales)


def with_feedback(weight: Tensor, scales: Tensor, feedback: Feedback) -> Float8Codes:
    """Codes for `weight: [n, K]`, columns in the order of `feedback`, each made up for by those still to come.

    As `gptq.py`, with the scales known before: nothing has to be grouped, so the order is that of single columns.
    """
    order = feedback.order
    codes = torch.empty(weight.shape, dtype=torch.float8_e4m3fn).view(torch.uint8)
    for rows in _some_rows(weight):
        found = _rows_with_feedback(weight[rows][:, order], scales[rows, 0], feedback)
        codes[rows] = found[:, order.argsort()]
    return Float8Codes(codes=codes.view(torch.float8_e4m3fn), scales=scales)


def _rows_with_feedback(weight: Tensor, scales: Tensor, feedback: Feedback) -> Tensor:
    """The codes, as bytes [n, K], of rows whose columns are in the order of `feedback`."""
    n, k = weight.shape
    errors = torch.zeros(k, n)  # transposed: what belongs to one column is contiguous
    codes = torch.empty(k, n, dtype=torch.uint8)
    for stop in range(k, 0, -_COLUMNS_AT_ONCE):
        columns = slice(max(0, stop - _COLUMNS_AT_ONCE), stop)
        targets = weight[:, columns].T.contiguous()
        targets.addmm_(feedback.below[stop:, columns].T, errors[stop:])
        below = feedback.below[columns, columns]
        for j in reversed(range(len(targets))):
            coded = _coded(targets[j] / scales)
            place = columns.start + j
            codes[place] = coded.view(torch.uint8)
            torch.sub(weight[:, place], coded.to(torch.float32) * scales, out=errors[place])
            if j:
                targets[:j].addr_(below[j, :j], errors[place])
    return codes.T


def _output_error(held: Tensor, codes: Float8Codes, wanted: Tensor) -> float:
    """|held W'^T - wanted|^2, a block of rows of W' at a time."""
    error = 0.0
    for rows in _some_rows(codes.scales):
        part = Float8Codes(codes=codes.codes[rows], scales=codes.scales[rows]).dequantise()
        error += float((held @ part.T).sub_(wanted[:, rows]).square_().sum())
    return error


def _choose_input(weight: Tensor, inputs: InputStatistics, wanted: Tensor, size: float) -> InputScale:
    held, largest = inputs.held, float(inputs.largest.max())
    scales = {
        rule: _fitting(scale, inputs.told) for rule, scale in rule_scales(inputs.searched, largest, "float8").items()
    }

    def loss(scale: float) -> float:
        return float((rounded(held, scale, "float8") @ weight.T).sub_(wanted).square_().sum()) / size

    errors: dict[Rule, float] = {rule: loss(scale) for rule, scale in scales.items()}
    rule = min(errors, key=errors.__getitem__)
    return InputScale(
        scale=scales[rule],
        rule=rule,
        percentile=scales["percentile"] * LARGEST["float8"],
        errors={str(one): error for one, error in errors.items()},
    )


def _covering_scales(weight: Tensor, each: WeightScales) -> Tensor:
    """The scales [n, 1] under which nothing is clipped."""
    largest = weight.abs().amax(dim=1, keepdim=True)
    return _normal((largest if each == "row" else largest.amax().repeat(len(weight), 1)) / LARGEST["float8"])


def _best_scales(weight: Tensor, covering: Tensor, importance: Tensor, each: WeightScales) -> Tensor:
    """For each row, or for all, the scale [n, 1] with the least error, the columns weighted by `importance` [K]."""

    def lost(scales: Tensor) -> Tensor:
        errors = _row_errors(weight, scales, importance)
        return errors if each == "row" else errors.sum().repeat(len(weight), 1)

    best, least = covering, lost(covering)
    for stretch in _STRETCHES:
        scales = _normal(covering * stretch)
        errors = lost(scales)
        better = errors < least
        best, least = torch.where(better, scales, best), torch.where(better, errors, least)
    return best


def _row_errors(weight: Tensor, scales: Tensor, importance: Tensor) -> Tensor:
    """[n, 1]."""
    errors = torch.empty(len(weight), 1)
    for rows in _some_rows(weight):
        errors[rows, 0] = rounded(weight[rows], scales[rows], "float8").sub_(weight[rows]).square_() @ importance
    return errors


def _some_rows(weight: Tensor) -> Iterator[slice]:
    for first in range(0, len(weight), _ROWS_AT_ONCE):
        yield slice(first, min(first + _ROWS_AT_ONCE, len(weight)))


def _coded(scaled: Tensor) -> Tensor:
    most = LARGEST["float8"]
    return scaled.clamp(-most, most).to(torch.float8_e4m3fn)


def _normal(scales: Tensor) -> Tensor:
    """The nearest normal float16, as float32."""
    return scales.clamp(_SMALLEST_SCALE, LARGEST_SCALED / LARGEST["float8"]).to(torch.float16).to(torch.float32)


def _fitting(scale: float, told: str) -> float:
    if scale * LARGEST["float8"] > LARGEST_SCALED:
        raise ExportError(
            f"the inputs of {told} reach {scale * LARGEST['float8']:g}, float8 with a float16 scale {LARGEST_SCALED:g}",
            remedy="look at the calibration samples, or use --precision int4",
        )
    return float(np.float32(np.float16(max(scale, _SMALLEST_SCALE))))


def _check_largest(weight: Tensor, told: str) -> None:
    largest = float(weight.abs().max())
    if largest > LARGEST_SCALED:
        raise ExportError(
            f"the weights of {told} reach {largest:g}, float8 under a float16 scale {LARGEST_SCALED:g}",
            remedy="export with --precision fp32",
        )
