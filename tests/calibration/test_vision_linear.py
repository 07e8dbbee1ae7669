import numpy as np
import pytest
import torch

from phiedge.calibration.statistics import InputStatistics, RowRoles
from phiedge.calibration.vision_linear import METHODS, choose, rounded_input
from phiedge.errors import ExportError


def statistics(rows: torch.Tensor) -> InputStatistics:
    inputs = InputStatistics(told="vision layer 0, fc1", columns=rows.shape[1], group_size=1, with_gram=False)
    half = len(rows) // 2
    places = torch.arange(half)
    some = torch.ones(half), torch.zeros(half)
    inputs.add(rows[:half], RowRoles(weights=some[0], searched=places, held=places[:0]), sample="one")
    inputs.add(rows[half:], RowRoles(weights=some[1], searched=places[:0], held=places), sample="two")
    return inputs


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize(("form", "most"), [("int8", 3e-4), ("float8", 3e-3)])
def test_little_is_lost_and_what_is_told_is_what_the_codes_do(form, most) -> None:
    weight, rows = 0.05 * normal(24, 64, seed=1), normal(200, 64, seed=2)
    found = choose(weight, statistics(rows), form)
    held = rows[100:]
    wanted = held @ weight.T
    lost = rounded_input(held, found.input_scale.scale, form) @ found.codes.dequantise().T - wanted
    error = float(lost.square().sum() / wanted.square().sum())
    assert error == pytest.approx(found.errors[found.method], rel=1e-3)
    assert found.errors[found.method] == min(found.errors.values()) < most
    assert set(found.errors) == set(METHODS)
    assert set(found.input_scale.errors) == {"max", "percentile", "mse"}


def test_one_number_that_is_far_out_does_not_set_the_scale_of_int8() -> None:
    rows = normal(200, 64)
    rows[3, 5] = 300.0
    found = choose(normal(24, 64, seed=1), statistics(rows), "int8").input_scale
    assert found.rule != "max"
    assert found.scale < 0.2 < 300 / 127


def test_scales_are_normal_float16_numbers_and_rows_of_zeros_have_one() -> None:
    weight = normal(4, 64)
    weight[2] = 0.0
    codes = choose(weight, statistics(normal(50, 64)), "int8").codes
    assert (codes.scales == codes.scales.astype(np.float16)).all()
    assert codes.scales.min() >= 2.0**-14
    assert not codes.dequantise()[2].any()


def test_inputs_beyond_the_range_are_the_largest_that_there_is() -> None:
    x = torch.tensor([1000.0, -1000.0, 1.0])
    assert rounded_input(x, 1.0, "int8").tolist() == [127.0, -128.0, 1.0]
    assert rounded_input(x, 1.0, "float8").tolist() == [448.0, -448.0, 1.0]


@pytest.mark.parametrize("form", ["int8", "float8"])
def test_what_no_scale_covers_is_refused(form) -> None:
    with pytest.raises(ExportError, match="vision layer 0, fc1 reach"):
        choose(normal(4, 64), statistics(1e9 * normal(50, 64)), form)
