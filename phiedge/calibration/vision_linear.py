"""One product of the vision encoder in 8 bits: the scale of its input, one for each row of its weight, and the codes.

    the input    rules of `eight_bits.py` compete: what covers all that was seen, a percentile, the least square error
    the weight   rtn    under the scale that covers a row, rounded to nearest
                 mse    under the scale that loses least, by the size of the inputs

Each is judged by the output, on rows of pictures that no rule saw. Inputs of this encoder come out of norms and have no
long tails, and 8 bits with a scale for each row lose little of a weight: nothing here tries harder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phiedge.calibration.artefact import InputScale
from phiedge.calibration.eight_bits import LARGEST, Rule, rounded, rule_scales
from phiedge.calibration.float8_linear import Float8Settings, choose_float8
from phiedge.calibration.statistics import InputStatistics
from phiedge.errors import ExportError
from phiedge.exporters.float8 import Float8Weight
from phiedge.exporters.precision import VisionLinears
from phiedge.exporters.quantised import QuantisedWeight
from phiedge.exporters.values import Float32
from phiedge.exporters.vision_scales import LARGEST_FLOAT16, SMALLEST_SCALE

VisionMethod: TypeAlias = Literal["rtn", "mse"]
METHODS: tuple[VisionMethod, ...] = ("rtn", "mse")
_SHRINKS = tuple(1 - step / 32 for step in range(12))
_LOWEST, _HIGHEST = -128, 127  # what an input is clipped to; weights stay symmetric


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionCodes:
    """codes: int8 [n, K], or the bytes of 8-bit floats as uint8; scales: float32 [n], each a normal float16."""

    form: VisionLinears
    codes: NDArray[np.int8] | NDArray[np.uint8]
    scales: Float32

    def int8(self, rows: slice) -> QuantisedWeight:
        """Some rows as the weight writer takes integers."""
        codes, k = self.codes[rows].astype(np.int8), self.codes.shape[1]
        return QuantisedWeight.of_codes(codes, self.scales[rows, None], bits=8, group_size=k)

    def float8(self, rows: slice) -> Float8Weight:
        """Some rows as the weight writer takes 8-bit floats."""
        return Float8Weight(codes=self.codes[rows].astype(np.uint8), scales=self.scales[rows])

    def dequantise(self) -> Tensor:
        """The weights [n, K] that these codes stand for."""
        rows = slice(0, len(self.codes))
        return torch.from_numpy((self.int8(rows) if self.form == "int8" else self.float8(rows)).dequantise())


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionChosen:
    """What became of one product. `errors`: |Q(X) Q(W)^T - X W^T|^2 / |X W^T|^2 over the held rows X, by method."""

    codes: VisionCodes
    input_scale: InputScale
    method: str
    errors: Mapping[str, float]


def rounded_input(x: Tensor, scale: float, form: VisionLinears) -> Tensor:
    """What a linear in 8 bits reads in place of `x`, as every engine rounds it."""
    if form == "float8":
        return rounded(x, scale, form)
    return (x.to(torch.float32) / scale).round().clamp(_LOWEST, _HIGHEST) * scale


def choose(weight: Tensor, inputs: InputStatistics, form: VisionLinears) -> VisionChosen:
    """Find the scale of the input and the codes of `weight: [n, K]` float32. Raises `ExportError` if none fits."""
    if form == "int8":
        return _choose_int8(weight, inputs)
    found = choose_float8(weight, inputs, Float8Settings(methods=METHODS))
    stored = found.codes.weight()
    return VisionChosen(
        codes=VisionCodes(form="float8", codes=stored.codes, scales=stored.scales),
        input_scale=found.input_scale,
        method=found.method,
        errors={str(method): error for method, error in found.errors.items()},
    )


def _choose_int8(weight: Tensor, inputs: InputStatistics) -> VisionChosen:
    wanted = inputs.held @ weight.T
    size = max(float(wanted.square().sum()), 1e-30)

    def lost(held: Tensor, other: Tensor) -> float:
        return float((held @ other.T).sub_(wanted).square_().sum()) / size

    largest = float(inputs.largest.max())
    rules = rule_scales(inputs.searched, largest, "int8")
    scales: dict[Rule, float] = {rule: _normal(scale, inputs.told) for rule, scale in rules.items()}
    by_rule = {rule: lost(rounded_input(inputs.held, scale, "int8"), weight) for rule, scale in scales.items()}
    rule = min(by_rule, key=by_rule.__getitem__)
    held = rounded_input(inputs.held, scales[rule], "int8")
    covering = _row_scales(weight.abs().amax(1, keepdim=True) / LARGEST["int8"], inputs.told)
    of_method = {"rtn": covering, "mse": _best(weight, covering, inputs.importance.flatten(), inputs.told)}
    errors = {method: lost(held, _codes(weight, of_method[method]) * of_method[method]) for method in METHODS}
    method = min(METHODS, key=errors.__getitem__)
    found = of_method[method]
    return VisionChosen(
        codes=VisionCodes(
            form="int8", codes=_codes(weight, found).to(torch.int8).numpy(), scales=found[:, 0].contiguous().numpy()
        ),
        input_scale=InputScale(
            scale=scales[rule],
            rule=rule,
            percentile=scales["percentile"] * LARGEST["int8"],
            errors={str(one): error for one, error in by_rule.items()},
        ),
        method=method,
        errors={str(one): error for one, error in errors.items()},
    )


def _best(weight: Tensor, covering: Tensor, importance: Tensor, told: str) -> Tensor:
    """For each row the scale [n, 1] with the least error, the columns weighted by `importance` [K]."""
    best, least = covering, torch.full_like(covering, torch.inf)
    for shrink in _SHRINKS:
        scales = _row_scales(covering * shrink, told)
        errors = ((_codes(weight, scales) * scales).sub_(weight).square_() @ importance)[:, None]
        better = errors < least
        best, least = torch.where(better, scales, best), torch.where(better, errors, least)
    return best


def _codes(weight: Tensor, scales: Tensor) -> Tensor:
    most = LARGEST["int8"]
    return (weight / scales).round_().clamp_(-most, most)


def _row_scales(scales: Tensor, told: str) -> Tensor:
    """The nearest normal float16, as float32."""
    _check(float(scales.max()), told, "weights")
    return scales.clamp(min=SMALLEST_SCALE).to(torch.float16).to(torch.float32)


def _normal(scale: float, told: str) -> float:
    _check(scale, told, "inputs")
    return float(np.float16(max(scale, SMALLEST_SCALE)))


def _check(scale: float, told: str, what: str) -> None:
    if scale > LARGEST_FLOAT16:
        most = LARGEST["int8"]
        raise ExportError(
            f"the {what} of {told} reach {scale * most:g}, int8 under a float16 scale {LARGEST_FLOAT16 * most:g}",
            remedy="look at the calibration pictures, or use --vision-precision float",
        )
