from typing import Any, cast

import pytest
import torch

from phiedge.calibration.methods import CHOICES, METHODS, Settings, choose_codes
from phiedge.calibration.statistics import InputStatistics, RowRoles
from phiedge.errors import ExportError, UsageError

K = 128


@pytest.fixture(scope="module")
def weight() -> torch.Tensor:
    return torch.randn(64, K, generator=torch.Generator().manual_seed(4))


def inputs(*, gram: bool = True) -> InputStatistics:
    """Correlated inputs with outlier channels; every fourth sample is held out."""
    generator = torch.Generator().manual_seed(5)
    rotation = torch.linalg.qr(torch.randn(K, K, generator=generator))[0]
    found = InputStatistics(told="a linear", columns=K, group_size=32, with_gram=gram)
    for sample in range(8):
        x = (torch.randn(100, K, generator=generator) * torch.logspace(0, -1, K)) @ rotation
        x[:, ::40] *= 30
        every, none = torch.arange(0, 100, 2), torch.arange(0)
        held = sample % 4 == 3
        weights = torch.zeros(100) if held else torch.ones(100)
        roles = RowRoles(weights=weights, searched=none if held else every, held=every if held else none)
        found.add(x, roles, sample=str(sample))
    return found


def test_the_method_that_loses_least_on_held_out_rows_is_kept(weight) -> None:
    chosen = choose_codes(weight, inputs(), Settings(group_size=32))
    assert set(chosen.errors) == set(METHODS)
    assert chosen.errors[chosen.method] <= min(chosen.errors.values()) / 0.97
    assert chosen.errors[chosen.method] <= chosen.errors["gptq"]


def test_smoothing_that_gains_next_to_nothing_is_left_out() -> None:
    flat = InputStatistics(told="a linear", columns=K, group_size=32, with_gram=True)
    generator = torch.Generator().manual_seed(6)
    for sample in range(4):
        x, every, none = torch.randn(200, K, generator=generator), torch.arange(200), torch.arange(0)
        held = sample == 3
        roles = RowRoles(
            weights=torch.full((200,), float(not held)),
            searched=none if held else every,
            held=every if held else none,
        )
        flat.add(x, roles, sample=str(sample))
    weight = torch.randn(64, K, generator=generator)
    assert "awq" not in choose_codes(weight, flat, Settings(group_size=32)).method


def test_with_planted_outliers_each_method_beats_the_one_before(weight) -> None:
    errors = choose_codes(weight, inputs(), Settings(group_size=32)).errors
    assert errors["clip"] < errors["rtn"]
    assert errors["awq"] < 0.8 * errors["rtn"]
    assert errors["gptq"] < 0.6 * errors["rtn"]


def test_what_does_not_smooth_has_factors_of_one(weight) -> None:
    chosen = choose_codes(weight, inputs(gram=False), Settings(methods=("rtn", "clip"), group_size=32))
    assert chosen.smoothing.alpha == 0
    assert bool((chosen.smoothing.factors == 1).all())


def test_where_nothing_can_be_smoothed_each_method_is_taken_as_it_is_without() -> None:
    unsmoothed = {choice: Settings(methods=methods).unsmoothed.methods for choice, methods in CHOICES.items()}
    assert unsmoothed == {
        "auto": ("rtn", "clip", "gptq"),
        "rtn": ("rtn", "clip"),
        "awq": ("rtn", "clip"),
        "gptq": ("rtn", "clip", "gptq"),
        "awq+gptq": ("gptq",),
    }


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no method"):
        Settings(methods=cast(Any, ("magic",)))
    with pytest.raises(UsageError, match="there is no method"):
        Settings(methods=())


def test_weights_that_no_scale_covers_are_refused_with_the_name_of_the_linear(weight) -> None:
    with pytest.raises(ExportError, match="the weights of a linear reach .*e.30, 4 bits under a float16 scale 458528"):
        choose_codes(weight * 1e30, inputs(), Settings(group_size=32))
