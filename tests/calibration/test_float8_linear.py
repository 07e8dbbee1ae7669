from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from phiedge.calibration.eight_bits import rounded
from phiedge.calibration.float8_linear import (
    FLOAT8_METHODS,
    Float8Method,
    Float8Settings,
    WeightScales,
    choose_float8,
    nearest,
    with_feedback,
)
from phiedge.calibration.gptq import Feedback
from phiedge.calibration.statistics import InputStatistics, RowRoles
from phiedge.errors import ExportError, UsageError

ROWS, COLUMNS, OUTPUTS = 768, 96, 64


def correlated_rows(seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    few = torch.randn(ROWS, 24, generator=generator)
    mixed = few @ torch.randn(24, COLUMNS, generator=torch.Generator().manual_seed(9))
    return mixed + 0.3 * torch.randn(ROWS, COLUMNS, generator=generator)


def statistics(rows: Tensor, *, with_gram: bool = True) -> InputStatistics:
    inputs = InputStatistics(told="layer 0, qkv", columns=COLUMNS, group_size=1, with_gram=with_gram)
    half = ROWS // 2
    weights = torch.cat([torch.ones(half), torch.zeros(half)])
    inputs.add(
        rows, RowRoles(weights=weights, searched=torch.arange(half), held=torch.arange(half, ROWS)), sample="a sample"
    )
    return inputs


def weight() -> Tensor:
    return torch.randn(OUTPUTS, COLUMNS, generator=torch.Generator().manual_seed(5))


def test_feedback_loses_least_and_the_best_method_is_taken() -> None:
    chosen = choose_float8(weight(), statistics(correlated_rows()), Float8Settings())
    assert tuple(chosen.errors) == FLOAT8_METHODS
    assert chosen.errors["gptq"] < 0.75 * chosen.errors["rtn"]
    assert chosen.errors["mse"] < chosen.errors["rtn"]
    assert chosen.method == "gptq"


def test_errors_are_those_of_what_an_engine_computes() -> None:
    rows = correlated_rows()
    chosen = choose_float8(weight(), statistics(rows), Float8Settings())
    held = rows[ROWS // 2 :]
    found = rounded(held, chosen.input_scale.scale, "float8") @ chosen.codes.dequantise().T
    wanted = held @ weight().T
    error = float((found - wanted).square().sum() / wanted.square().sum())
    assert chosen.errors[chosen.method] == pytest.approx(error, rel=1e-4)


def test_an_input_with_a_rare_giant_is_not_clipped_where_that_costs_more() -> None:
    rows = correlated_rows()
    rows[::50, 7] = 400.0
    chosen = choose_float8(weight(), statistics(rows), Float8Settings(methods=("rtn",)))
    told = chosen.input_scale
    assert told.rule == min(told.errors, key=told.errors.__getitem__)
    assert told.scale * 448 > 300


def test_scales_are_normal_float16_numbers_and_cover_or_clip_on_purpose() -> None:
    chosen = choose_float8(weight(), statistics(correlated_rows()), Float8Settings())
    scales = chosen.codes.scales
    assert torch.equal(scales, scales.to(torch.float16).to(torch.float32))
    assert float(scales.min()) >= 2.0**-14
    half = torch.tensor(chosen.input_scale.scale).to(torch.float16)
    assert chosen.input_scale.scale == float(half)


@pytest.mark.parametrize("method", FLOAT8_METHODS)
def test_a_weight_may_have_one_scale_for_all_rows(method: Float8Method) -> None:
    settings = Float8Settings(methods=(method,), weight_scales="tensor")
    chosen = choose_float8(weight(), statistics(correlated_rows()), settings)
    assert chosen.codes.scales.shape == (OUTPUTS, 1)
    assert chosen.codes.scales.unique().numel() == 1
    assert np.unique(chosen.codes.weight().scales).size == 1
    by_row = choose_float8(weight(), statistics(correlated_rows()), Float8Settings(methods=(method,)))
    assert by_row.codes.scales.unique().numel() > 1
    assert chosen.errors[method] < 1.5 * by_row.errors[method]


def test_scales_for_neither_rows_nor_a_tensor_are_refused() -> None:
    with pytest.raises(UsageError, match="no scales for each 'block'"):
        Float8Settings(weight_scales=cast(WeightScales, "block"))


def test_without_correlation_feedback_is_rounding_to_nearest() -> None:
    feedback = Feedback.of(torch.eye(COLUMNS), group_size=1)
    scales = torch.full((OUTPUTS, 1), 2.0**-7)
    assert torch.equal(
        with_feedback(weight(), scales, feedback).codes.view(torch.uint8),
        nearest(weight(), scales).codes.view(torch.uint8),
    )


def test_what_the_exporter_gets_stands_for_the_same_weights() -> None:
    codes = nearest(weight(), torch.full((OUTPUTS, 1), 2.0**-6))
    assert torch.equal(torch.from_numpy(codes.weight().dequantise()), codes.dequantise())


def test_weights_that_no_scale_covers_are_refused_by_name() -> None:
    with pytest.raises(ExportError, match=r"the weights of layer 0, qkv reach 1e\+09"):
        choose_float8(weight() * 0 + 1e9, statistics(correlated_rows()), Float8Settings())


def test_inputs_that_no_scale_covers_are_refused_by_name() -> None:
    with pytest.raises(ExportError, match="the inputs of layer 0, qkv reach"):
        choose_float8(weight(), statistics(correlated_rows() * 1e9), Float8Settings(methods=("rtn",)))


def test_a_method_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no method"):
        Float8Settings(methods=("awq",))
